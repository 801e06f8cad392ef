"""`Trainer.predict_proba`: what outputs mean to the loss, graded in float64, and the estimators' probabilities beside it."""
import functools

import numpy as np
import pytest

from deepnotes import MLP, Trainer, outputs
from deepnotes.layers import Identity, Linear, Sequential
from deepnotes.training.probabilities import log_probabilities, probabilities

Z = np.array([[0.0, 1.0, -2.0], [30.0, -30.0, 0.5], [200.0, 0.0, -200.0]])


def softmax(z, axis=1):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def echo(loss, width=3, dtype="float32"):
    "A Trainer whose model gives its inputs."
    layer = Linear(width, width, dtype=dtype, rng=0)
    layer.weight.data[...], layer.bias.data[...] = np.eye(width), 0
    return Trainer(Sequential(layer), loss)


@pytest.mark.parametrize("loss, wanted", [
    ("cross_entropy", softmax(Z)), (outputs.cross_entropy, softmax(Z)),
    (functools.partial(outputs.cross_entropy, label_smoothing=0.1), softmax(Z)),
    (functools.partial(outputs.cross_entropy, axis=-1), softmax(Z)),
    ("binary_cross_entropy_with_logits", sigmoid(Z)),
    (functools.partial(outputs.binary_cross_entropy_with_logits, pos_weight=[1.0, 2.0, 3.0]), sigmoid(Z)),
])
def test_from_logits(loss, wanted):
    trainer = echo(loss, dtype="float64")
    np.testing.assert_allclose(trainer.predict_proba(Z), wanted, rtol=1e-14, atol=0)
    trainer = echo(loss)
    found = trainer.predict_proba(Z)
    assert found.dtype == np.float32 and found.shape == Z.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-38)


def test_classes_follow_from_probabilities():
    Z = np.random.default_rng(0).normal(size=(50, 3))
    many, several = echo("cross_entropy"), echo("binary_cross_entropy_with_logits")
    np.testing.assert_array_equal(many.predict(Z), many.predict_proba(Z).argmax(axis=1))
    np.testing.assert_allclose(many.predict_proba(Z).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(several.predict(Z), several.predict_proba(Z) > 0.5)
    one = echo("binary_cross_entropy_with_logits", width=1)
    assert one.predict_proba(Z[:, :1]).shape == (50, 1)             # as predict: a question, not two classes


def test_outputs_that_are_probabilities_already():
    p = softmax(Z[:2])
    np.testing.assert_allclose(echo(outputs.nll_loss).predict_proba(np.log(p)), p, rtol=1e-5)
    np.testing.assert_array_equal(echo(outputs.binary_cross_entropy).predict_proba(p), p.astype("float32"))


def test_classes_on_another_axis_and_without_one():
    images = np.random.default_rng(0).normal(size=(2, 3, 4))
    trainer = Trainer(Sequential(Identity(), Linear(4, 4, dtype="float64", rng=0)), "cross_entropy")
    np.testing.assert_allclose(trainer.predict_proba(images), softmax(trainer.forward(images), 1), rtol=1e-14)
    trainer = Trainer(trainer.model, functools.partial(outputs.cross_entropy, axis=2))
    np.testing.assert_allclose(trainer.predict_proba(images), softmax(trainer.forward(images), 2), rtol=1e-14)


def mine(out, y):
    return ((out - y) ** 2).mean()


@pytest.mark.parametrize("loss, said", [
    ("mse_loss", "not to mse_loss; predict gives the values"), (outputs.hinge_loss, "not to hinge_loss; predict gives the values"),
    (functools.partial(outputs.huber_loss, delta=2.0), "not to huber_loss; predict"),
    (mine, r"not to mine; use activations\.softmax or activations\.sigmoid on forward\(X\)"),
    (lambda out, y: mine(out, y), "not to <lambda>; use activations"),
])
def test_losses_of_no_probabilities_are_refused_before_anything_is_computed(loss, said):
    with pytest.raises(TypeError, match=rf"Trainer\.predict_proba: the outputs are probabilities to the losses cross_entropy, .*{said}"):
        echo(loss).predict_proba("no data are looked at")


def test_what_is_no_number_has_no_probability():
    trainer = echo("cross_entropy")
    trainer.model[0].weight.data[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="Trainer.predict_proba: the model's output for row 0 is nan"):
        trainer.predict_proba(Z)
    with pytest.raises(ValueError, match="Trainer.predict_proba: X must hold finite numbers"):
        trainer.predict_proba([[np.nan, 0, 0]])


def test_logarithms_do_not_underflow():
    far = np.array([[0.0, -2000.0]])
    np.testing.assert_array_equal(log_probabilities(far, yes_or_no=False), far)
    np.testing.assert_array_equal(log_probabilities(far, yes_or_no=True)[:, 1], [-2000.0])
    np.testing.assert_array_equal(probabilities(far, yes_or_no=True), [[0.5, 0.0]])


@pytest.mark.filterwarnings("ignore:MLPClassifier. stopped after")
@pytest.mark.parametrize("kind", ["two", "three", "labels"])
def test_the_estimators_give_the_same(kind):
    estimators = pytest.importorskip("deepnotes.estimators")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    y = {"two": X[:, 0] > 0, "three": rng.integers(3, size=30), "labels": (X[:, :2] > 0).astype(int)}[kind]
    fitted = estimators.MLPClassifier((5,), max_iter=3, random_state=0, tol=0, n_iter_no_change=10).fit(X, y)
    trainer = Trainer(fitted.model_, "cross_entropy" if kind == "three" else "binary_cross_entropy_with_logits")
    found, mine = fitted.predict_proba(X), trainer.predict_proba(X)
    np.testing.assert_array_equal(found[:, 1:] if kind == "two" else found, mine)
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), found, rtol=1e-13)
    chosen = trainer.predict(X)
    np.testing.assert_array_equal(fitted.predict(X), chosen[:, 0].astype(bool) if kind == "two" else chosen)


def test_a_trained_model_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.integers(3, size=20)
    trainer = Trainer(MLP(4, [5], 3, rng=0))
    trainer.fit(X, y, epochs=1, progress=False)
    trainer.save(tmp_path / "run")
    np.testing.assert_array_equal(Trainer.load(tmp_path / "run").predict_proba(X), trainer.predict_proba(X))
