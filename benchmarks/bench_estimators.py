"""Estimators beside scikit-learn's of the same names, and what weights of rows cost: `python benchmarks/bench_estimators.py`."""
import _harness

chosen = _harness.options(__doc__)

import functools  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import warnings  # noqa: E402
from importlib import metadata  # noqa: E402

import numpy as np  # noqa: E402
from sklearn import datasets, neural_network  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

import deepnotes as dn  # noqa: E402
from deepnotes import estimators, kernels  # noqa: E402

kernels.set_num_threads(chosen.threads)
warnings.simplefilter("ignore", ConvergenceWarning)
PEERS = {"deepnotes": estimators, "scikit-learn": neural_network}
SEEDS = range(10)
COLD = """
import sys, time
import numpy as np
from sklearn import datasets
X, y = datasets.load_digits(return_X_y=True)
begin = time.{clock}()
from {module} import MLPClassifier
imported = time.{clock}()
model = MLPClassifier(random_state=0, max_iter=5).fit(X, y)
fitted = time.{clock}()
model.predict(X[:32])
print(imported - begin, fitted - imported, time.{clock}() - fitted)
"""
TARGETS = {"fit": {"worst": 0.4}, "an epoch with weights": {"worst": 1.05}}


def tables():
    "Name, kind of estimator, training and test rows, scaled; defaults but for the epochs of the largest."
    made = datasets.make_classification(20_000, 100, n_informative=20, random_state=0)
    diabetes = datasets.load_diabetes(return_X_y=True)
    standard = diabetes[0], (diabetes[1] - diabetes[1].mean()) / diabetes[1].std()
    for name, kind, (X, y), settings in [
            ("digits", "MLPClassifier", datasets.load_digits(return_X_y=True), {}),
            ("breast cancer", "MLPClassifier", datasets.load_breast_cancer(return_X_y=True), {}),
            ("diabetes", "MLPRegressor", standard, {}),
            ("20,000 × 100", "MLPClassifier", made, {"max_iter": 30})]:
        X, X_test, y, y_test = train_test_split(X, y, random_state=0)
        scaler = StandardScaler().fit(X)
        yield name, kind, (scaler.transform(X), y), (scaler.transform(X_test), y_test), settings


def fitted(module, kind, train, settings, seed=0):
    return getattr(module, kind)(random_state=seed, **settings).fit(*train)


def fits():
    for name, kind, train, _, settings in tables():
        peers = {peer: functools.partial(fitted, module, kind, train, settings) for peer, module in PEERS.items()}
        yield "fit", name, peers, 5


def weighted():
    "Seconds of an epoch at batch 32, captured: the first with a weight for each row, the second without."
    rng = np.random.default_rng(0)
    X, y, weight = rng.standard_normal((4096, 64), dtype=np.float32), rng.integers(0, 10, 4096), rng.uniform(0.5, 2, 4096)
    for loss, targets in (("cross_entropy", y), ("mse_loss", np.eye(10, dtype=np.float32)[y])):
        peers = {}
        for name, given in (("with weights", {"sample_weight": weight}), ("without", {})):
            trainer = dn.Trainer(dn.MLP(64, [128, 64], 10, rng=0), loss, seed=0)
            peers[name] = lambda trainer=trainer, targets=targets, given=given: trainer.fit(
                X, targets, epochs=5, batch_size=32, progress=False, **given)
            peers[name]()
        yield "an epoch with weights", loss, peers, 21


def accuracy():
    "Accuracy, or r² of diabetes, on rows held out: the mean over ten seeds, and its spread."
    for name, kind, train, test, settings in tables():
        scores = {peer: [fitted(module, kind, train, settings, seed).score(*test) for seed in SEEDS]
                  for peer, module in PEERS.items()}
        yield "score", f"{name}, mean", "", {peer: float(np.mean(found)) for peer, found in scores.items()}
        yield "score", f"{name}, standard deviation", "", {peer: float(np.std(found)) for peer, found in scores.items()}


def cold():
    "Seconds of import, first fit and first prediction in a fresh process: with nothing compiled yet, then with the cache of that."
    modules = {"deepnotes": "deepnotes.estimators", "scikit-learn": "sklearn.neural_network"}
    with tempfile.TemporaryDirectory() as folder:
        settings, clock = {**os.environ, "DEEPNOTES_CACHE_DIR": folder}, "process_time" if _harness.BUSY else "perf_counter"
        for state, times in (("empty", 1), ("warm", 3)):
            found = {}
            for peer, module in modules.items():
                program = [sys.executable, "-W", "ignore", "-c", COLD.format(module=module, clock=clock)]
                runs = [subprocess.run(program, check=True, capture_output=True, text=True, env=settings) for _ in range(times)]
                runs = [run.stdout.split() for run in runs]
                found[peer] = [min(map(float, column)) for column in zip(*runs, strict=True)]
            for k, what in enumerate(("import", "first fit, 5 epochs of digits", "first prediction, 32 rows")):
                yield f"fresh process, {state} cache", what, "s", {peer: seconds[k] for peer, seconds in found.items()}


def measured():
    if chosen.only in ("", "score"):
        yield from accuracy()
    if chosen.only in ("", "fresh process"):
        yield from cold()


def cases():
    yield from fits()
    yield from weighted()


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "scikit-learn")}
    _harness.run("estimators", cases(), chosen, versions, TARGETS, measured())
