"""What the chapter The training procedure claims, measured again; and its exercises' checks, which must refuse wrong answers."""
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from book_helpers import ROOT, checked, try_exercise
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import train_test_split

from deepnotes import datasets
from deepnotes.autograd import Tensor
from deepnotes.comparing import paired
from deepnotes.layers import MLP, Linear
from deepnotes.optimizers import SGD, Adam, AdamW
from deepnotes.outputs import cross_entropy
from deepnotes.training import Trainer
from deepnotes.training.callbacks import Callback, EarlyStopping
from deepnotes.training.loader import Loader

CHAPTER = ROOT / "nbs" / "08_training.ipynb"


def code_cells():
    cells = json.loads(CHAPTER.read_text(encoding="utf-8"))["cells"]
    return ["\n".join(line for line in "".join(c["source"]).splitlines() if not line.startswith("#|")).strip()
            for c in cells if c["cell_type"] == "code"]


@pytest.fixture(scope="module")
def space():
    digits = datasets.load_digits()
    split = train_test_split(digits.X / digits.X.max() * 2 - 1, digits.y, random_state=0, test_size=0.25)
    moons = datasets.make_moons(400, noise=0.2, rng=0)
    space = {"np": np, "os": os, "tempfile": tempfile, "Path": Path, "Trainer": Trainer, "MLP": MLP, "Linear": Linear, "SGD": SGD,
             "Adam": Adam, "AdamW": AdamW, "Ridge": Ridge, "Callback": Callback, "EarlyStopping": EarlyStopping, "Loader": Loader,
             "datasets": datasets, "digits": digits, "images": digits.X / digits.X.max() * 2 - 1, "paired": paired, "split": split,
             "sample": (split[0][:200], split[2][:200]), "X": moons.X, "y": moons.y}
    for start in ("def linear_model(", "def moons(", "def patient(", "def moved(", "def T(A)", "def batch_of(", "def train_many(",
                  "def probabilities(", "def report(hits", "def write_station(", "def network(", "def calibrated("):
        (cell,) = [c for c in code_cells() if start in c]
        for rest in ("\n\n\ndef opening", "\n\n\npatients =", "\n\n\nrng, ks =", "\n\n\nprint(", "\n\n\ngrid ="):
            cell = cell.split(rest)[0]
        exec(cell, space)
    for cell in code_cells():
        if cell.startswith("def check_"):
            exec(cell, space)
    space["A"], space["t"] = space["standardized"](datasets.load_diabetes())
    return space


def test_equal_mini_batches_average_to_the_gradient():
    data = datasets.make_moons(400, noise=0.2, rng=0)
    model = MLP(2, [32], 2, rng=0, dtype="float64")

    def gradient(rows):
        model.zero_grad()
        cross_entropy(model(Tensor(data.X[rows].astype("float64"))), data.y[rows]).backward()
        return model[0].weight.grad.numpy().copy()

    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_allclose(np.mean([gradient(b) for b in np.split(order, 20)], axis=0), gradient(np.arange(400)), atol=1e-14)


def test_the_trainer_is_the_loop_of_ten_lines():
    data = datasets.make_moons(100, noise=0.2, rng=0)
    model = MLP(2, [8], 2, rng=0)
    optimizer = Adam(model.parameters(), lr=0.01)
    for epoch in range(5):
        for batch in np.split(np.random.default_rng((3, epoch)).permutation(100), 5):
            loss = cross_entropy(model(Tensor(data.X[batch])), data.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    twin = MLP(2, [8], 2, rng=0)
    Trainer(twin, optimizer=Adam(twin.parameters(), lr=0.01), seed=3, capture=False).fit(data.X, data.y, epochs=5, batch_size=20,
                                                                                         progress=False)
    assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def test_one_linear_layer_is_least_squares_ridge_and_logistic_regression(space):
    fit, A, t = space["linear_model"], space["A"], space["t"]
    B, c = space["standardized"](datasets.load_breast_cancer())
    for ours, solver in (
        (fit(A, t, "mse_loss", 0.0, lr=0.1), LinearRegression().fit(A, t)),
        (fit(A, t, "mse_loss", 2 * 10.0 / len(A), lr=0.1), Ridge(alpha=10.0).fit(A, t)),
        (fit(B, c, "binary_cross_entropy_with_logits", 1 / len(B), lr=0.5),
         LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-12).fit(B, c)),
    ):
        np.testing.assert_allclose(ours, [*solver.coef_.ravel(), *np.ravel(solver.intercept_)], rtol=1e-7, atol=1e-8)
    closed = np.linalg.solve(A.T @ A + 10 * np.eye(A.shape[1]), A.T @ (t - t.mean()))
    np.testing.assert_allclose(fit(A, t, "mse_loss", 2 * 10.0 / len(A), lr=0.1)[:-1], closed, rtol=1e-9)


def test_the_order_matters_and_its_being_new_does_not(space):
    X, X_test, y, y_test = space["split"]

    def scores(order, seed):
        rows = np.argsort(y, kind="stable") if order == "sorted" else np.random.default_rng(seed).permutation(len(y))
        loader = Loader(X[rows], y[rows], shuffle=order == "new", seed=seed)
        trainer = Trainer(MLP(64, [128], 10, rng=seed), seed=seed)
        return trainer.fit(loader, epochs=5, validation=(X_test, y_test), progress=False)["val_accuracy"]

    new, once, by_class = (np.array([scores(order, seed) for seed in range(3)]) for order in ("new", "once", "sorted"))
    assert by_class[:, 0].max() < min(new[:, 0].min(), once[:, 0].min()) - 0.2
    assert by_class[:, 4].max() < min(np.median(new[:, 4]), np.median(once[:, 4]))
    assert abs(np.median(new[:, 4]) - np.median(once[:, 4])) < 0.03


def test_accumulated_micro_batches_are_one_batch_if_weighted_by_their_share():
    data = datasets.make_moons(100, noise=0.2, rng=0)
    model = MLP(2, [8], 2, rng=0, dtype="float64")

    def gradient(parts, weight):
        model.zero_grad()
        for rows in parts:
            (weight(rows) * cross_entropy(model(Tensor(data.X[rows].astype("float64"))), data.y[rows])).backward()
        return model[0].weight.grad.numpy().copy()

    whole = gradient([np.arange(100)], lambda rows: 1.0)
    uneven = np.split(np.arange(100), [40, 80])
    np.testing.assert_allclose(gradient(uneven, lambda rows: len(rows) / 100), whole, atol=1e-15)
    assert abs(gradient(uneven, lambda rows: 1 / 3) - whole).max() > 1e-3 * abs(whole).max()


def test_many_networks_at_once_are_networks_alone(space):
    "Each network of an array takes the steps of the loop, with its own dose, whoever else is trained beside it."
    many = space["train_many"]([3, 4], [3, 4], [0.01, 0.03], decay=[[0.0], [0.01]], marks=(5, 30))
    alone = space["train_many"]([3, 4], [3, 4], 0.03, decay=0.01, marks=(5, 30))
    assert [w.shape for w in many[1]] == [(2, 2, 2, 64, 32), (2, 2, 2, 1, 32), (2, 2, 2, 32, 10), (2, 2, 2, 1, 10)]
    for step in range(2):
        for w, v in zip(many[step], alone[step], strict=True):
            np.testing.assert_allclose(w[1, 1], v, rtol=0, atol=2e-5)
    images, y, rng = space["images"], space["noisy_split"](3)[1], np.random.default_rng(0)
    order = np.array([space["noisy_split"](s)[0] for s in (3, 4)])
    model = MLP(64, [32], 10, rng=3)
    optimizer = SGD(model.parameters(), lr=0.03, momentum=0.9)
    for _ in range(5):
        _, _, k = space["batch_of"](rng, order, np.float32(200).reshape(1, 1), np.float32(0).reshape(1, 1))
        optimizer.zero_grad()
        penalty = sum(0.005 * (model[i].weight * model[i].weight).sum() for i in (0, 2))
        (cross_entropy(model(Tensor(images[k[0]])), y[k[0]]) + penalty).backward()
        optimizer.step()
    for w, parameter in zip(alone[0], model.parameters(), strict=True):
        np.testing.assert_allclose(w[0].reshape(parameter.shape), parameter.data, atol=2e-5)


def test_remedies_add_to_early_stopping_and_data_most(space):
    splits, errors, train = range(60, 68), space["errors"], space["train_many"]
    runs = {"late": (0.01, {"marks": (1000,)}), "early": (0.003, {"marks": (700,)}), "decay": (0.003, {"marks": (700,), "decay": 0.03}),
            "shift": (0.01, {"marks": (700,), "shift": 1.0, "drop": 0.25}), "data": (0.003, {"marks": (1000,), "rows": 800})}
    wrong = {name: errors(train(splits, splits, lr, **dose)[0], splits, space["TEST"]) for name, (lr, dose) in runs.items()}
    for better, worse in (("early", "late"), ("decay", "early"), ("shift", "early"), ("data", "shift")):
        found = paired(wrong[worse], wrong[better])
        assert found.low > 0, (better, worse, str(found))


def test_the_best_on_the_test_set_is_not_that_good(space):
    "The bound holds for guessers and for candidates that err together; scores on rows that did not choose are right on average."
    rng, report = np.random.default_rng(1), space["report"]
    for k in (2, 16, 128):
        best = rng.binomial(100, 0.5, (4000, k)).max(1).mean() / 100 - 0.5
        assert 0.4 * np.sqrt(2 * np.log(k)) / 20 < best < np.sqrt(2 * np.log(k)) / 20
    shared = rng.random((16, 997))
    shared[:, :500] = shared[0, :500]                        # candidates that agree on half of the rows
    for hits in (rng.random((16, 997)) < 0.8, shared < 0.8):
        told = np.array([report(hits, 16, rng) for _ in range(600)])
        optimism, honest = told[:, 0] - told[:, 2], told[:, 1] - told[:, 2]
        assert 0.01 < optimism.mean() < np.sqrt(2 * np.log(16)) / 20
        assert abs(honest.mean()) < 5 * honest.std() / 600**0.5 + 0.004


def test_the_mean_of_many_is_better_than_its_members_by_what_they_disagree(space):
    splits = np.repeat([80, 81, 82, 83, 84, 85], 6)
    weights = space["train_many"](splits, np.tile(np.arange(6), 6), 0.01, marks=(400,))[0]
    gains, far = [], []
    for i, split in enumerate(splits[::6]):
        rows = space["noisy_split"](split)[0][800:]
        members = [[w[6 * i + j] for w in weights] for j in range(6)]
        p = np.array([space["probabilities"](space["images"][rows], *w) for w in members], float)
        y = np.eye(10)[space["digits"].y[rows]]
        each = ((p - y) ** 2).sum(-1).mean()
        together = ((p.mean(0) - y) ** 2).sum(-1).mean()
        np.testing.assert_allclose(together, each - ((p - p.mean(0)) ** 2).sum(-1).mean(), rtol=1e-12)
        gains.append((p.argmax(-1) != y.argmax(-1)).mean() - (p.mean(0).argmax(-1) != y.argmax(-1)).mean())
        noise = 100 * np.random.default_rng(i).normal(size=(50, 64))
        q = np.array([space["probabilities"](noise, *w) for w in members])
        far.append((q.max(-1).mean(), q.mean(0).max(-1).mean()))
    assert min(gains) > 0
    assert min(alone for alone, _ in far) > 0.95 and max(mean for _, mean in far) < 0.75


def test_early_stopping_helps_on_thirty_noisy_points(space):
    moons = space["moons"]

    def run(seed, callbacks=()):
        model = MLP(2, [100, 100], 2, rng=seed)
        trainer = Trainer(model, optimizer=AdamW(model.parameters(), lr=0.003, weight_decay=0.0), seed=seed)
        history = trainer.fit(*moons(30, seed), epochs=100, batch_size=10, validation=moons(300, 99), callbacks=callbacks,
                              progress=False)
        return history["val_loss"], trainer.evaluate(*moons(1000, 98))["loss"]

    losses, ends = zip(*[run(seed) for seed in range(6)], strict=True)
    assert all(loss[-1] > 1.2 * min(loss) for loss in losses)
    assert paired(ends, [run(seed, EarlyStopping(patience=30))[1] for seed in range(6)]).low > 0


def test_the_network_of_the_capstone_beats_a_fair_baseline_and_nears_the_truth(space, tmp_path):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    space["write_station"](tmp_path / "a.csv", 2000, 1)
    table = datasets.read_csv(tmp_path / "a.csv", target="station", text="one-hot")
    assert table.features[2:7] == ("day=weekend", "day=workday", "weather=dry", "weather=rain", "weather=snow")
    p = space["write_station"](tmp_path / "b.csv", 4000, 2)
    fresh = datasets.read_csv(tmp_path / "b.csv", target="station", text="one-hot")
    train, valid = table.split(400, rng=0, stratify=True)
    scaler = datasets.StandardScaler().fit(train.X)
    net = space["network"]((scaler.transform(train.X), train.y), validation=(scaler.transform(valid.X), valid.y),
                           callbacks=EarlyStopping(patience=15))
    said = space["calibrated"](net, scaler.transform(fresh.X), 1.0)[:, 1]
    cubic = make_pipeline(PolynomialFeatures(3), StandardScaler(), LogisticRegression(C=0.3, max_iter=500)).fit(train.X, train.y)

    def extra(q):
        return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()

    assert 0 < extra(said) < 0.09 < extra(cubic.predict_proba(fresh.X)[:, 1])


def test_vital_signs_tell_four_patients_apart(space):
    X, _, y, _ = space["split"]
    seen = {}
    for name, settings in {"healthy": {}, "slow": {"lr": 5e-5}, "dead": {"bias": -4.0}, "hot": {"lr": 3.0}}.items():
        patient = space["patient"](**settings)
        loss = patient.fit(X, y, epochs=5, progress=False)["loss"][-1]
        found = patient.diagnose(*space["sample"])
        seen[name] = loss, found["update_ratio"]["2.weight"], found["dead"]["3"]
    assert seen["healthy"][0] < 0.5 and min(seen[name][0] for name in ("slow", "dead", "hot")) > 2.2
    assert 1e-4 < seen["healthy"][1] < 1e-1 and 0 < seen["slow"][1] < 1e-5
    hot = space["patient"](lr=3.0)
    hot.fit(X, y, epochs=2, progress=False)
    h = hot.diagnose(*space["sample"])["activations"]["1"]
    assert abs(h @ hot.model[2].weight.data).max() < 1 < np.median(-hot.model[2].bias.data)    # biases, not inputs, kill its units
    assert seen["dead"][2] == seen["hot"][2] == 1 and max(seen["healthy"][2], seen["slow"][2]) < 0.2


# Exercises: each check takes the right answer and refuses several wrong ones.

@checked("08_training")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


class LateTarget(Callback):
    def __init__(self, target):
        self.target, self.hits = target, 0

    def on_epoch_end(self, trainer, row):
        self.hits += row["accuracy"] >= self.target
        trainer.stop_training = self.hits > 1


class EarlyTarget(Callback):
    def __init__(self, target):
        pass

    def on_epoch_end(self, trainer, row):
        trainer.stop_training = row["accuracy"] >= 0.8


def elsewhere(path, text):
    part = Path(tempfile.mkdtemp()) / "part"
    part.write_text(text)
    os.replace(part, path)


def half_written(path, text):
    part = path.with_name("part")
    part.write_text(text[:1])
    os.replace(part, path)
    path.write_text(text)


def removing(path, text):
    part = path.with_name("part")
    part.write_text(text)
    path.unlink(missing_ok=True)
    part.rename(path)


def ordered(n, size, rng):
    return [np.arange(n)[k:k + size] for k in range(0, n, size)]


def global_order(n, size, rng):
    return [np.random.default_rng().permutation(n)[k:k + size] for k in range(0, n, size)]


def dropping(n, size, rng):
    order = rng.permutation(n)
    return [order[k:k + size] for k in range(0, n - size + 1, size)]


def ties_improve(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss <= losses[best] else best
        if epoch - best >= patience:
            return epoch + 1, best + 1
    return len(losses), best + 1


WRONG = [
    ("check_steps", (155, 8)), ("check_steps", (160, 32)), ("check_epoch_loss", 3.0), ("check_epoch_loss", 2.0),
    ("check_batches", ordered), ("check_batches", global_order), ("check_batches", dropping),
    ("check_patience", ties_improve), ("check_patience", lambda losses, patience: (len(losses), 1)),
    ("check_decay", lambda alpha, n: alpha / n), ("check_decay", lambda alpha, n: 2 * alpha),
    ("check_target", LateTarget), ("check_target", EarlyTarget), ("check_target", lambda target: Callback()),
    ("check_doctor", lambda seen: "dead units"), ("check_doctor", lambda seen: "too slow" if seen["loss"] > 2 else "healthy"),
    ("check_write", elsewhere), ("check_write", half_written), ("check_write", removing),
    ("check_ridge", lambda rate, steps: 1 / steps), ("check_ridge", lambda rate, steps: rate),
    ("check_gift", lambda n, k: np.sqrt(2 * np.log(k) / n)), ("check_gift", lambda n, k: np.sqrt(np.log(k) / n)),
    ("check_diversity", lambda f: f.var()), ("check_diversity", lambda f: f.var(axis=0, ddof=1).mean()),
    ("check_your_run", lambda data: lambda X: np.full(len(X), data.y.mean())),
    ("check_your_run", lambda data: lambda X: (X[:, 0] > 12).astype(float)),
    ("check_study", [(8, 100, 0.95), (16, 100, 0.95), (32, 100, 0.95), (64, 100, 0.95)]),
    ("check_study", [(8, 100, 0.95), (64, 50, 0.5), (128, 40, 0.95), (256, 30, 0.95)]), ("check_study", []),
]


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError, match=" "):
        space[check](*wrong if isinstance(wrong, tuple) else (wrong,))
