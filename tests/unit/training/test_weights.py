"""A row of weight three means three such rows: in the loss, the step, the measures, from whatever the data come."""
import functools

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels, layers, optimizers, outputs
from deepnotes.training import Loader, Trainer
from deepnotes.training import metrics as counting
from deepnotes.training.weights import _weighing

COUNTS = np.array([0, 3, 1, 2, 0, 1, 1, 4])
MANY = np.repeat(np.arange(8), COUNTS)
X = np.random.default_rng(0).normal(size=(8, 3))
LABELS = np.array([0, 2, 1, 1, 0, 2, 0, 1])
YES = (np.random.default_rng(1).random((8, 2)) < 0.5).astype(float)
VALUES = np.random.default_rng(2).normal(size=(8, 2))


def own_loss(out, y, weight=None):
    """A loss of the user's that knows weights."""
    rows = ((out - dn.Tensor(y)) ** 2).sum(axis=1)
    if weight is None:
        return rows.mean()
    return (rows * dn.Tensor(weight)).sum() / dn.Tensor(weight).sum()


def trainer(loss, outputs_=3, capture=False, dtype=np.float64, **more):
    model = layers.MLP(3, [4], outputs_, activation="tanh", rng=0, dtype=dtype)
    return Trainer(model, loss, optimizers.SGD(model.parameters(), lr=0.1, momentum=0.9), seed=0, capture=capture, **more)


def parameters(one):
    return np.concatenate([p.data.ravel() for p in one.model.parameters()])


LOSSES = [("cross_entropy", LABELS, 3), ("cross_entropy", np.where(LABELS == 2, -100, LABELS), 3),
          ("cross_entropy", np.eye(3)[LABELS], 3), (functools.partial(outputs.cross_entropy, label_smoothing=0.1), LABELS, 3),
          (functools.partial(outputs.cross_entropy, ignore_index=1), LABELS, 3), ("binary_cross_entropy_with_logits", YES, 2),
          ("mse_loss", VALUES, 2), (outputs.l1_loss, VALUES, 2), (outputs.huber_loss, VALUES, 2),
          (functools.partial(outputs.poisson_nll_loss, log_input=True), YES, 2), (own_loss, VALUES, 2)]
NAMES = ["labels", "ignored", "shares", "smoothed", "ignored otherwise", "answers", "values", "absolute", "huber", "counts", "own"]


RUNS = [(*case, False) for case in LOSSES] + [(*LOSSES[k], True) for k in (1, 5, 6)]        # a recording for each takes its time


@pytest.mark.parametrize("loss, y, outputs_, capture", RUNS, ids=[*NAMES, *(f"captured {NAMES[k]}" for k in (1, 5, 6))])
def test_weights_are_repetitions(loss, y, outputs_, capture):
    """Whole batches, five steps with momentum: weights, loss and accuracy are those of the repeated rows."""
    weighted, repeated = trainer(loss, outputs_, capture), trainer(loss, outputs_, capture)
    a = weighted.fit(X, y, epochs=5, batch_size=100, progress=False, sample_weight=COUNTS)
    b = repeated.fit(X[MANY], y[MANY], epochs=5, batch_size=100, progress=False)
    np.testing.assert_allclose(parameters(weighted), parameters(repeated), rtol=1e-9, atol=1e-12)
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9)
    one, other = weighted.evaluate(X, y, COUNTS), repeated.evaluate(X[MANY], y[MANY])
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9)
    if capture:
        assert weighted._step.captured or "numba" in weighted._step.reason or "compile" in weighted._step.reason


@pytest.mark.parametrize("name", [name for name in outputs.__all__ if "reduction" in getattr(outputs, name).__code__.co_varnames])
def test_every_loss_that_has_two_arguments(name):
    """Each loss of the library: weighted mean and gradient are those of repeated rows."""
    loss = getattr(outputs, name)
    out = dn.Tensor(np.random.default_rng(3).uniform(0.1, 0.9, (8, 3)), requires_grad=True)
    signs = np.where(np.eye(3)[LABELS] > 0, 1.0, -1.0)
    targets = {"cross_entropy": LABELS, "nll_loss": LABELS, "multi_margin_loss": LABELS, "hinge_loss": signs, "hinge_embedding_loss": signs}
    y = targets.get(name, np.random.default_rng(4).uniform(0.1, 0.9, (8, 3)))
    if name in ("gaussian_nll_loss", "mixture_density_nll_loss"):
        return                                                      # their outputs are several: a loss of the user's own
    weighted = _weighing(loss)(out, y, COUNTS.astype(float))
    weighted.backward()
    slope, out.grad = out.grad.data.copy(), None
    repeated = loss(out[MANY], y[MANY])
    repeated.backward()
    np.testing.assert_allclose(weighted.item(), repeated.item(), rtol=1e-12)
    np.testing.assert_allclose(slope, out.grad.data, rtol=1e-9, atol=1e-15)


def test_a_captured_step_gives_what_the_plain_one_gives():
    rng = np.random.default_rng(0)
    data, labels, weight = rng.normal(size=(50, 3)).astype("f4"), rng.integers(0, 3, 50), rng.uniform(0, 3, 50)
    for loss, y in (("cross_entropy", labels), ("mse_loss", np.eye(3)[labels])):
        fast, plain = (trainer(loss, capture=capture, dtype=np.float32) for capture in (True, False))
        for one in (fast, plain):
            one.fit(data, y, epochs=4, batch_size=8, progress=False, sample_weight=weight)
        np.testing.assert_allclose(parameters(fast), parameters(plain), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fast.history["loss"], plain.history["loss"], rtol=1e-5)


def test_equal_weights_change_nothing():
    rng = np.random.default_rng(0)
    data, labels = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    with_weights, without = trainer("cross_entropy"), trainer("cross_entropy")
    with_weights.fit(data, labels, epochs=4, batch_size=8, progress=False, sample_weight=np.full(50, 2.5))
    without.fit(data, labels, epochs=4, batch_size=8, progress=False)
    np.testing.assert_allclose(parameters(with_weights), parameters(without), rtol=1e-9)
    assert with_weights.history["accuracy"] == pytest.approx(without.history["accuracy"])


# ── Classes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given, rows", [({0: 2.0, 2: 0.5}, [2.0, 0.5, 1, 1, 2.0, 0.5, 2.0, 1]),
                                         ([2.0, 1.0, 0.5], [2.0, 0.5, 1, 1, 2.0, 0.5, 2.0, 1]),
                                         ("balanced", [8 / 9, 4 / 3, 8 / 9, 8 / 9, 8 / 9, 4 / 3, 8 / 9, 8 / 9])])
def test_weights_of_classes_are_weights_of_rows(given, rows):
    by_class, by_row, with_loader = (trainer("cross_entropy") for _ in range(3))
    by_class.fit(X, LABELS, epochs=3, batch_size=4, progress=False, class_weight=given)
    by_row.fit(X, LABELS, epochs=3, batch_size=4, progress=False, sample_weight=rows)
    with_loader.fit(Loader(X, LABELS, 4, seed=0, class_weight=given), epochs=3, progress=False)
    np.testing.assert_allclose(parameters(by_class), parameters(by_row), rtol=1e-12)
    assert np.array_equal(parameters(by_class), parameters(with_loader))
    assert by_class.evaluate(X, LABELS, class_weight=given) == pytest.approx(by_class.evaluate(X, LABELS, rows))


def test_both_multiply_and_yes_or_no_labels_are_classes():
    yes = YES[:, :1]
    a, b = trainer("binary_cross_entropy_with_logits", 1), trainer("binary_cross_entropy_with_logits", 1)
    a.fit(X, yes, epochs=2, progress=False, sample_weight=COUNTS + 1, class_weight={1: 3})
    b.fit(X, yes, epochs=2, progress=False, sample_weight=(COUNTS + 1) * np.where(yes[:, 0] > 0, 3, 1))
    np.testing.assert_allclose(parameters(a), parameters(b), rtol=1e-12)


# ── From whatever the data come ──────────────────────────────────────────────────────────────────────────────────────


def test_files_streams_and_arrays_train_alike(tmp_path):
    weight = COUNTS + 0.5
    for name, a in (("X", X), ("y", LABELS), ("w", weight)):
        np.save(tmp_path / f"{name}.npy", a)
    batches = [(X[k:k + 4], LABELS[k:k + 4], weight[k:k + 4]) for k in (0, 4)]
    runs = [trainer("cross_entropy") for _ in range(3)]
    for run, data in zip(runs, (Loader(X, LABELS, 4, shuffle=False, sample_weight=weight),
                                Loader(tmp_path / "X.npy", tmp_path / "y.npy", 4, shuffle=False, sample_weight=tmp_path / "w.npy"),
                                Loader(batches)), strict=True):
        run.fit(data, epochs=3, progress=False)
    for run in runs[1:]:
        np.testing.assert_allclose(parameters(run), parameters(runs[0]), rtol=1e-9)
        np.testing.assert_allclose(run.history["loss"], runs[0].history["loss"], rtol=1e-9)
        np.testing.assert_allclose(run.history["accuracy"], runs[0].history["accuracy"], rtol=1e-9)


def test_a_loader_hands_out_triples():
    loader = Loader(X, LABELS, 3, seed=1, sample_weight=COUNTS)
    seen = list(loader)
    assert all(len(batch) == 3 for batch in seen)
    order = np.random.default_rng((1, 0)).permutation(8)
    assert np.array_equal(np.concatenate([w for _, _, w in seen]), COUNTS[order])
    assert "w" not in str(loader.state_dict())


def test_validation_has_weights_of_its_own():
    one = trainer("cross_entropy")
    history = one.fit(X, LABELS, epochs=2, progress=False, validation=(X, LABELS, COUNTS))
    told = one.evaluate(X[MANY], LABELS[MANY])
    assert history["val_loss"][-1] == pytest.approx(told["loss"]) and history["val_accuracy"][-1] == pytest.approx(told["accuracy"])


def test_metrics_count_rows_as_often_as_their_weights_say():
    def spread(out, y, sample_weight=None):
        return np.average(np.abs(out - y).max(axis=1), weights=sample_weight)

    one = trainer("mse_loss", 2, metrics=["r2_score", "mean_absolute_error", spread])
    weighted, repeated = one.evaluate(X, VALUES, COUNTS), one.evaluate(X[MANY], VALUES[MANY])
    assert weighted == pytest.approx(repeated)
    stubborn = trainer("mse_loss", 2, metrics=lambda out, y: 0.0)
    with pytest.raises(TypeError, match="takes none; let it have a parameter sample_weight"):
        stubborn.evaluate(X, VALUES, COUNTS)


def test_a_run_cut_in_two_goes_on_with_its_weights(tmp_path):
    whole, first = trainer("cross_entropy"), trainer("cross_entropy")
    given = dict(batch_size=3, progress=False, sample_weight=COUNTS + 0.25)

    class Stop(dn.training.Callback):
        every = 2

        def on_train_batch_end(self, trainer, step):
            if len(trainer.history) == 1:
                trainer.stop_training = True

    whole.fit(X, LABELS, epochs=3, **given)
    first.fit(X, LABELS, epochs=3, callbacks=Stop(), **given)
    first.save(tmp_path / "half.safetensors")
    second = Trainer.load(tmp_path / "half.safetensors")
    second.fit(X, LABELS, epochs=2, **given)
    np.testing.assert_allclose(parameters(second), parameters(whole), rtol=1e-12)
    assert second.history["loss"] == pytest.approx(whole.history["loss"]) and len(second.history) == 3
    assert second.history["accuracy"] == pytest.approx(whole.history["accuracy"])


def test_a_batch_without_weight_moves_nothing():
    one = trainer("cross_entropy")
    before = parameters(one)
    one.optimizer.param_groups[0]["momentum"] = 0.0
    one.fit(Loader([(X[:4], LABELS[:4], np.ones(4) * 1e-300), (X, LABELS, np.ones(8))]), epochs=1, progress=False)
    assert np.isfinite(one.history["loss"]).all() and not np.array_equal(parameters(one), before)


def test_rows_of_weight_zero_reach_no_batch_normalization():
    def make():
        model = layers.MLP(3, [4], 3, norm="batch", rng=0, dtype=np.float64)
        return Trainer(model, "cross_entropy", optimizers.SGD(model.parameters(), lr=0.1), seed=0)

    far, kept = X.copy(), COUNTS > 0
    far[~kept] = 1e6
    a, b = make(), make()
    a.fit(far, LABELS, epochs=2, progress=False, sample_weight=COUNTS)
    b.fit(X[kept], LABELS[kept], epochs=2, progress=False, sample_weight=COUNTS[kept])
    assert np.array_equal(parameters(a), parameters(b))


# ── Counting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_weight_of_right_answers(dtype, backend):
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=(40, 3)).astype(dtype), rng.integers(0, 5, 40).astype(dtype)
    labels, shares, answers = rng.integers(0, 3, 40), rng.random((40, 3)).astype(dtype), (rng.random((40, 3)) < 0.5).astype(dtype)
    with kernels.backend(backend):
        found = [counting._weigh_right(z, y, y is answers, weight) for y in (labels, shares, answers)]
    assert [a.item() for a in found] == [weight[z.argmax(axis=1) == labels].sum(),
                                         weight[z.argmax(axis=1) == shares.argmax(axis=1)].sum(),
                                         (((z > 0) == (answers > 0.5)).sum(axis=1) * weight).sum()]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_of_what_is_no_number_no_answer_is_right(dtype, backend):
    "Wherever a row has a NaN, in outputs or in targets; counted, weighed, in whatever layout."
    rng = np.random.default_rng(0)
    z, shares, answers = (rng.normal(size=(90, 3)).astype(dtype) for _ in range(3))
    for x in (z, shares, answers):
        x[rng.random(x.shape) < 0.2] = np.nan
    z[:3, 0], weight = np.nan, rng.integers(1, 5, 90).astype(dtype)
    labels = np.where(np.arange(90) < 3, -1, rng.integers(0, 3, 90))
    top = [int(np.argmax(row)) if np.isfinite(row).all() else None for row in z]
    wanted = {"labels": np.array([a is not None and a == b for a, b in zip(top, labels, strict=True)]),
              "shares": np.array([a is not None and np.isfinite(b).all() and a == np.argmax(b)
                                  for a, b in zip(top, shares, strict=True)]),
              "answers": np.array([[np.isfinite(a + b) and (a > 0) == (b > 0.5) for a, b in zip(*rows, strict=True)]
                                   for rows in zip(z, answers, strict=True)])}
    assert all(0.05 < hits.mean() < 0.6 for hits in wanted.values())
    with kernels.backend(backend):
        for name, y in (("labels", labels), ("shares", shares), ("answers", answers)):
            hits = wanted[name].reshape(90, -1)
            for given in (z, np.asfortranarray(z)):
                assert counting._count_right(given, y, name == "answers").item() == hits.sum()
                assert counting._weigh_right(given, y, name == "answers", weight).item() == (hits * weight[:, None]).sum()


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("given, said", [
    (dict(sample_weight=-COUNTS), "entry 1 is -3"), (dict(sample_weight=[np.nan] * 8), "entry 0 is nan"),
    (dict(sample_weight=np.zeros(8)), "every weight is 0"), (dict(sample_weight=np.ones(3)), r"shape \(8,\), one for each row, got \(3,\)"),
    (dict(sample_weight=np.ones((8, 1))), r"got \(8, 1\)"), (dict(class_weight={"a": 1}), "numbers of classes for keys, got 'a'"),
    (dict(class_weight="even"), "must be 'balanced'"), (dict(class_weight=[1.0, 2.0]), "2 weights, for the classes from 0 to 1"),
    (dict(class_weight={0: -1}), "not negative")])
def test_bad_weights_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        trainer("cross_entropy").fit(X, LABELS, progress=False, **given)
    with pytest.raises(ValueError, match=said):
        Loader(X, LABELS, **given)


def test_other_refusals():
    with pytest.raises(ValueError, match="one whole label for each row"):
        trainer("mse_loss", 2).fit(X, VALUES, progress=False, class_weight="balanced")
    with pytest.raises(TypeError, match="weights of rows come too late"):
        trainer(lambda out, y: ((out - dn.Tensor(y)) ** 2).mean(), 2).fit(X, VALUES, progress=False, sample_weight=COUNTS)
    with pytest.raises(TypeError, match="weights of classes of its own"):
        loss = functools.partial(outputs.cross_entropy, weight=np.ones(3))
        trainer(loss).fit(X, LABELS, progress=False, sample_weight=COUNTS)
    with pytest.raises(ValueError, match="a Loader brings its weights"):
        trainer("cross_entropy").fit(Loader(X, LABELS), progress=False, sample_weight=COUNTS)
    with pytest.raises(ValueError, match="brings its weights itself, as triples"):
        Loader([(X, LABELS)], sample_weight=COUNTS)
    with pytest.raises(TypeError, match="or with weights"):
        trainer("cross_entropy").fit(X, LABELS, progress=False, validation=(X,))
