"""Trainer and History: the loop's arithmetic, reproducibility, records, and trouble reported early."""
import csv
import io

import numpy as np
import pytest

from deepnotes import outputs
from deepnotes.autograd import Tensor
from deepnotes.layers import MLP, Linear, Module
from deepnotes.optimizers import SGD, Adam
from deepnotes.training import History, Trainer
from deepnotes.training.callbacks import Callback


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(size=(n, 2)) + 3 * np.array([[0, 0], [0, 1], [1, 0]])[y], y


def trained(epochs=(6,), seed=0, rng=0, **kwargs):
    model = MLP(2, [8], 3, rng=rng)
    trainer = Trainer(model, optimizer=Adam(model.parameters(), lr=0.05), seed=seed)
    for n in epochs:
        trainer.fit(*blobs(), epochs=n, batch_size=16, progress=False, **kwargs)
    return trainer


def same_state(a, b):
    a, b = a.model.state_dict(), b.model.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_one_full_batch_step_is_gradient_descent():
    X, y = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0], [0.0]])
    model = Linear(2, 1, rng=0, dtype="float64")
    w, b = model.weight.numpy().copy(), model.bias.numpy().copy()
    trainer = Trainer(model, loss="mse_loss", optimizer=SGD(model.parameters(), lr=0.1))
    history = trainer.fit(X, y, epochs=1, batch_size=2, progress=False)
    error = X @ w + b - y
    np.testing.assert_allclose(history["loss"], [np.mean(error**2)], rtol=1e-12)
    np.testing.assert_allclose(model.weight.numpy(), w - 0.1 * X.T @ error, rtol=1e-12)       # 2/n = 1 here
    np.testing.assert_allclose(model.bias.numpy(), b - 0.1 * error.sum(0), rtol=1e-12)


def test_every_example_is_seen_once_per_epoch_in_a_new_order():
    seen = []

    class Spy(Module):
        def __init__(self):
            self.linear = Linear(1, 1, rng=0)

        def forward(self, x):
            if self.training:
                seen.append(x.numpy().ravel().copy())
            return self.linear(x)

    X = np.arange(10.0)[:, None]
    Trainer(Spy(), loss="mse_loss", capture=False).fit(X, 0 * X, epochs=3, batch_size=4, validation=(X, 0 * X), progress=False)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 3
    epochs = [np.concatenate(seen[i:i + 3]) for i in (0, 3, 6)]
    assert all(np.array_equal(np.sort(order), np.arange(10)) for order in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_same_seed_same_numbers_bit_for_bit():
    assert same_state(trained(), trained()) and trained().history.columns == trained().history.columns
    assert not same_state(trained(), trained(seed=1))
    assert not same_state(trained(), trained(rng=1))


def test_two_fits_are_one_long_fit_and_validation_changes_nothing():
    assert same_state(trained((2, 4)), trained((6,)))
    assert trained((2, 4)).history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert same_state(trained(validation=blobs(30, seed=1)), trained())


def test_learns_and_measures():
    trainer = trained((30,), validation=blobs(30, seed=1))
    X, y = blobs(30, seed=1)
    logits = trainer.forward(X)
    assert trainer.score(X, y) == np.mean(logits.argmax(1) == y) == np.mean(trainer.predict(X) == y) > 0.8
    assert trainer.evaluate(X, y)["loss"] == trainer.history["val_loss"][-1]
    assert trainer.history["loss"][-1] < trainer.history["loss"][0]
    expected = outputs.cross_entropy(Tensor(logits), y).item()
    np.testing.assert_allclose(trainer.evaluate(X, y)["loss"], expected, rtol=1e-5)


def test_an_epochs_loss_weighs_each_example_alike():
    X, y = blobs(10)
    model = MLP(2, [4], 3, rng=0)
    trainer = Trainer(model, optimizer=SGD(model.parameters(), lr=1e-30))                     # stands still
    history = trainer.fit(X, y, epochs=1, batch_size=4, progress=False)
    np.testing.assert_allclose(history["loss"][0], trainer.evaluate(X, y)["loss"], rtol=1e-6)
    assert history["accuracy"][0] == trainer.score(X, y)


def test_binary_labels_and_regression():
    X, y = blobs()
    yes = (y == 0)[:, None]
    model = MLP(2, [8], 1, rng=0)
    trainer = Trainer(model, loss="binary_cross_entropy_with_logits", optimizer=Adam(model.parameters(), lr=0.05))
    trainer.fit(X, yes, epochs=50, progress=False)
    assert set(np.unique(trainer.predict(X))) <= {0, 1} and trainer.score(X, yes) > 0.85
    model = MLP(2, [], 1, rng=0, dtype="float64")
    line = X @ [[2.0], [-1.0]] + 0.5
    trainer = Trainer(model, loss="mse_loss", optimizer=Adam(model.parameters(), lr=0.05))
    history = trainer.fit(X, line, epochs=200, progress=False)
    assert "accuracy" not in history.columns and history["loss"][-1] < 1e-6
    np.testing.assert_allclose(trainer.predict(X), line, atol=5e-3)


def test_own_losses():
    X, y = blobs()
    model = MLP(2, [8], 3, rng=0)
    trainer = Trainer(model, loss=lambda out, target: outputs.cross_entropy(out, target) * 2.0)
    history = trainer.fit(X, y, epochs=1, progress=False)
    assert list(history.columns) == ["epoch", "loss"]
    assert list(Trainer(MLP(2, [8], 3), loss=outputs.cross_entropy).fit(X, y, epochs=1, progress=False).columns) == [
        "epoch", "loss", "accuracy"]


def test_predictions_do_not_record_or_change_the_mode():
    trainer = trained((1,))
    trainer.model.eval()
    trainer.predict(blobs()[0])
    assert not trainer.model.training
    trainer.model.train()
    trainer.evaluate(*blobs())
    assert trainer.model.training
    big = np.tile(blobs()[0], (40, 1))                                                       # more than one chunk
    np.testing.assert_array_equal(trainer.predict(big), np.tile(trainer.predict(blobs()[0]), 40))


def test_history_as_a_table(tmp_path):
    history = trained((3,)).history
    trainer = trained((3,))
    trainer.fit(*blobs(), epochs=1, validation=blobs(30, 1), progress=False)
    trainer.history.to_csv(tmp_path / "run.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "run.csv").read_text())))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [float(row["loss"]) for row in rows[:3]] == history["loss"]
    assert rows[0]["val_loss"] == "" and float(rows[3]["val_loss"]) == trainer.history["val_loss"][3]
    assert "epoch=4" in repr(trainer.history) and repr(History()) == "History(no epochs yet)"
    with pytest.raises(KeyError, match="columns: epoch, loss"):
        history["lss"]


def test_history_plot_has_labels():
    import matplotlib
    matplotlib.use("Agg")
    axes = trained((3,), validation=blobs(30, 1)).history.plot()
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in axes] == [("epoch", "loss"), ("epoch", "accuracy")]
    assert all(len(ax.lines) == 2 for ax in axes)


def test_progress_bar_is_drawn_only_when_asked(capsys):
    trained((2,))
    assert capsys.readouterr().err == ""
    Trainer(MLP(2, [3], 3)).fit(*blobs(), epochs=2)                     # stderr is no terminal here
    assert capsys.readouterr().err == ""
    Trainer(MLP(2, [3], 3)).fit(*blobs(), epochs=2, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_before_the_weights_follow():
    X, y = blobs()
    trainer = trained((1,))
    before = trainer.model.state_dict()
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match="Trainer.fit: X must hold finite numbers.*row 7, column 1"):
        trainer.fit(X, y, batch_size=60, progress=False)
    X = np.where(np.isnan(X), 1.0, X).astype("float32")                 # what the model computes with, so it is not copied

    class Spoil(Callback):
        def on_epoch_begin(self, trainer):
            X[7, 1] = np.nan                                            # after `fit` has looked at the data

    with pytest.raises(FloatingPointError, match=r"epoch 2, step 1.*inputs \(row"):
        trainer.fit(X, y, batch_size=60, progress=False, callbacks=Spoil())
    assert all(np.array_equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert len(trainer.history) == 1


MODEL = MLP(2, [3], 3)


@pytest.mark.parametrize("call, error, words", [
    (lambda: Trainer(lambda x: x), TypeError, "must be a Module"),
    (lambda: Trainer(MODEL, loss="crossentropy"), ValueError, "got 'crossentropy'"),
    (lambda: Trainer(MODEL, optimizer="adam"), TypeError, "must be an Optimizer"),
    (lambda: Trainer(MODEL, seed=1.5), TypeError, "seed must be an integer"),
    (lambda: Trainer(MODEL).fit(*blobs(), epochs=-1), ValueError, "epochs must be an integer of at least 0"),
    (lambda: Trainer(MODEL).fit(*blobs(), batch_size=2.5), ValueError, "batch_size must be"),
    (lambda: Trainer(MODEL).fit(blobs()[0], [1, 2]), ValueError, "same number of examples"),
    (lambda: Trainer(MODEL).fit(*blobs(), validation=(blobs()[0], [1])), ValueError, "validation.*same number"),
    (lambda: Trainer(MODEL).fit(np.empty((0, 2)), []), ValueError, "at least one"),
    (lambda: Trainer(MODEL).predict(np.empty((0, 2))), ValueError, "no examples"),
    (lambda: Trainer(MODEL, loss="mse_loss").score(*blobs()), TypeError, "use evaluate"),
    (lambda: Trainer(MODEL).fit(blobs()[0], blobs()[1] + 1, progress=False), ValueError, "labels hold class 3"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter" in str(caught.value)
