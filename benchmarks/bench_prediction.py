"""Prediction beside onnxruntime and PyTorch, the first one and those that follow: `python benchmarks/bench_prediction.py`."""
import _harness

chosen = _harness.options(__doc__)

import tempfile  # noqa: E402
import time  # noqa: E402
from importlib import metadata, util  # noqa: E402
from pathlib import Path  # noqa: E402

import _peers  # noqa: E402
import numpy as np  # noqa: E402
from _peers import CLASSIFIER, NAMES  # noqa: E402

import deepnotes as dn  # noqa: E402
from deepnotes import kernels  # noqa: E402
from deepnotes.capture.prediction import TIMES  # noqa: E402

kernels.set_num_threads(chosen.threads)
ROWS = (1, 32, 1000, 10_000)
MISSING = [name for name in ("onnxruntime", "onnx_ir", "torch") if util.find_spec(name) is None]
TARGETS = {("classes", "onnxruntime"): {"worst": 1.0}, ("one row", "reading the weights"): {"worst": 2.0}}


def model():
    made = dn.MLP(CLASSIFIER[0], list(CLASSIFIER[1:-1]), CLASSIFIER[-1], rng=0)
    linear = [module for module in made.children() if hasattr(module, "weight")]
    for layer, (w, b) in zip(linear, _peers.weights(CLASSIFIER), strict=True):
        layer.weight.data[...], layer.bias.data[...] = w, b
    return made


def onnx_session():
    import onnxruntime

    from deepnotes.exchange import to_onnx
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = chosen.threads, 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        to_onnx(model().eval(), CLASSIFIER[0], path)
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def torch_classes(X):
    import torch
    torch.set_num_threads(chosen.threads)
    layers = []
    for w, b in _peers.weights(CLASSIFIER):
        layer = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1]).eval()

    def classes():
        with torch.inference_mode():
            return network(torch.from_numpy(X)).argmax(1).numpy()

    return classes


def peers(X):
    "Each peer's classes for the rows, from an array to an array, and the Trainer among them."
    trainer, plain = dn.Trainer(model()), dn.Trainer(model(), capture=False)
    calls = {"deepnotes": lambda: trainer.predict(X)}
    if not {"onnxruntime", "onnx_ir"} & set(MISSING):
        session = onnx_session()
        calls["onnxruntime"] = lambda: session.run(None, {"input": X})[0].argmax(1)
    if "torch" not in MISSING:
        calls["torch"] = torch_classes(X)
    return calls | {"without capture": lambda: plain.predict(X)}, trainer


def classes():
    for n in ROWS:
        X, _ = _peers.data(CLASSIFIER, n)
        calls, trainer = peers(X)
        for _ in range(TIMES + 3):
            answers = [call() for call in calls.values()]
        same = min(np.mean(answers[0] == answer) for answer in answers)
        if same < 0.999 or not trainer.prediction.captured:
            raise RuntimeError(f"{n} rows: {same:.4f} of the answers agree; {trainer.prediction.reason}")
        yield (f"classes from {NAMES[CLASSIFIER]}", f"{n:,} rows" if n > 1 else "1 row", calls)


def one_row():
    "One row's outputs beside a pass that only reads the weights: their sum, by a product with ones."
    X, _ = _peers.data(CLASSIFIER, 1)
    trainer = dn.Trainer(model())
    weights = [p.data for p in trainer.model.parameters() if p.ndim == 2]
    ones = [(np.ones(w.shape[0], np.float32), np.empty(w.shape[1], np.float32)) for w in weights]

    def read():
        for w, (left, out) in zip(weights, ones, strict=True):
            np.dot(left, w, out)

    for _ in range(TIMES + 3):
        trainer.forward(X)
    yield "one row", "outputs", {"deepnotes": lambda: trainer.forward(X), "reading the weights": read}


def cold():
    "Seconds of the first prediction, of the two that are recorded, and of a later one"
    X, _ = _peers.data(CLASSIFIER, 32)
    trainer, spent = dn.Trainer(model()), []
    for _ in range(TIMES + 20):
        start = time.perf_counter()
        trainer.predict(X)
        spent.append(time.perf_counter() - start)
    for case, seconds in (("first", spent[0]), ("recorded", sum(spent[TIMES:TIMES + 2])), ("later", min(spent[TIMES + 2:]))):
        yield "a prediction for 32 rows", case, "s", {"deepnotes": seconds}


def cases():
    for group in (classes, one_row):
        yield from group()


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "torch", "onnxruntime") if name not in MISSING}
    if MISSING:
        versions["not measured"] = {name: f"{name} is not installed" for name in MISSING}
    _harness.run("prediction", cases(), chosen, versions, TARGETS, cold() if chosen.only in ("", "cold") else ())
