"""What skl2onnx writes of scikit-learn's multilayer perceptrons, and what they answer: `onnx/sklearn_*.onnx`, `onnx/sklearn.npz`.

Run with an interpreter that has scikit-learn and skl2onnx (1.9 and 1.20 made the files): python tests/data/make_from_sklearn.py
"""
import warnings
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parent / "onnx"


def main():
    rng = np.random.default_rng(0)
    X = (3 * rng.normal(size=(60, 4)) + [5, 0, -2, 1]).astype("float32")
    labels, targets = (X - X.mean(0))[:, :3].argmax(1), X[:, :2] ** 2
    models = {
        "classifier": (MLPClassifier((6,), random_state=0), labels),
        "sigmoids": (MLPClassifier((6, 4), activation="logistic", random_state=0), labels),
        "binary": (MLPClassifier((6,), random_state=0), labels > 0),
        "regressor": (MLPRegressor(hidden_layer_sizes=(6, 4), activation="tanh", random_state=0), targets),
        "one_target": (MLPRegressor(hidden_layer_sizes=(6,), random_state=0), targets[:, 0]),
        "pipeline": (make_pipeline(StandardScaler(), MLPClassifier((5,), random_state=0)), labels),
    }
    stored = {"X": X}
    for name, (model, y) in models.items():
        model.fit(X, y)
        classifies = hasattr(model, "classes_")
        graph = to_onnx(model, X[:1], options={"zipmap": False} if classifies else None, target_opset=20)
        (FOLDER / f"sklearn_{name}.onnx").write_bytes(graph.SerializeToString())
        stored[name] = model.predict_proba(X) if classifies else model.predict(X)
    np.savez_compressed(FOLDER / "sklearn.npz", **stored)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
