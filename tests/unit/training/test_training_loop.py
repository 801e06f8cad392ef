"""Training under trouble and load: any source of data, schedules, Ctrl-C, NaN, threads, memory; callbacks and diagnostics."""
import ast
import gc
import inspect
import os
import signal
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from deepnotes import kernels, outputs
from deepnotes.autograd import Tensor
from deepnotes.layers import MLP, Embedding, Linear, Module, ReLU, Sequential
from deepnotes.optimizers import SGD, Adam
from deepnotes.schedules import ExponentialLR, ReduceLROnPlateau
from deepnotes.training import History, Trainer
from deepnotes.training.callbacks import Callback, Checkpoint, Diagnostics, EarlyStopping
from deepnotes.training.loader import Loader
from deepnotes.training.preparing import plain_step


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 2)) + 3 * np.array([[0, 0], [0, 1], [1, 0]])[y]).astype("float32"), y


def a_trainer(lr=0.02, **settings):
    model = MLP(2, [8], 3, rng=0)
    return Trainer(model, optimizer=Adam(model.parameters(), lr=lr), seed=0, **settings)


def state(trainer):
    return {**trainer.model.state_dict(), **{k: np.array(v, float) for k, v in trainer.history.columns.items()}}


def same(a, b):
    a, b = (x if isinstance(x, dict) else state(x) for x in (a, b))
    return list(a) == list(b) and all(a[name].tobytes() == b[name].tobytes() for name in a)


def fit(trainer, *data, epochs=4, **settings):
    trainer.fit(*(data or blobs()), epochs=epochs, progress=False, **settings)
    return trainer


# Data from anywhere

def test_files_larger_than_a_window_train_like_arrays(tmp_path, monkeypatch):
    X, y = blobs(70)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    monkeypatch.setattr("deepnotes.training.epochs._WINDOW", 500)              # a few batches
    straight = fit(a_trainer(), X, y, batch_size=8)
    assert same(fit(a_trainer(), tmp_path / "X.npy", tmp_path / "y.npy", batch_size=8), straight)
    assert same(fit(a_trainer(), Loader(tmp_path / "X.npy", str(tmp_path / "y.npy"), batch_size=8)), straight)
    assert same(fit(a_trainer(), np.load(tmp_path / "X.npy", mmap_mode="r"), y, batch_size=8), straight)


def test_a_mapped_file_is_never_read_whole(tmp_path, monkeypatch):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", "uint8", (20_000, 500))          # 10 MB, to become 40 MB
    X[:, 0] = np.arange(20_000) % 2
    X.flush()
    y = (np.arange(20_000) % 2)[:, None]
    monkeypatch.setattr("deepnotes.training.epochs._WINDOW", 1 << 18)
    trainer = Trainer(Linear(500, 1, rng=0), loss="binary_cross_entropy_with_logits", capture=False)
    loader = Loader(tmp_path / "X.npy", y, batch_size=100)
    fit(trainer, loader, epochs=1)
    tracemalloc.start()
    fit(trainer, loader, epochs=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000, "more than a tenth of the data was in memory"


def test_a_list_of_batches_trains_like_rows_in_order():
    X, y = blobs(50)
    pairs = [(X[k:k + 8], y[k:k + 8]) for k in range(0, 50, 8)]
    straight = fit(a_trainer(), Loader(X, y, batch_size=8, shuffle=False))
    assert same(fit(a_trainer(), Loader(pairs)), straight)
    assert same(fit(a_trainer(), Loader(lambda: iter(pairs))), straight)


def test_a_generator_lasts_one_epoch():
    X, y = blobs()
    loader = Loader((X[k:k + 6], y[k:k + 6]) for k in range(0, 60, 6))
    fit(a_trainer(), loader, epochs=1)
    with pytest.raises(ValueError, match="used up"):
        fit(a_trainer(), Loader((X[k:k + 6], y[k:k + 6]) for k in range(0, 60, 6)), epochs=2)


def test_drop_last_and_odd_sizes():
    X, y = blobs(50)
    steps = []

    class Count(Callback):
        every = 1

        def on_train_batch_end(self, trainer, step):
            steps.append(step)

    history = fit(a_trainer(), Loader(X, y, batch_size=16, drop_last=True), epochs=2, callbacks=Count()).history
    assert steps == [1, 2, 3] * 2 and history["accuracy"][0] * 48 == int(history["accuracy"][0] * 48 + 0.5)
    assert len(fit(a_trainer(), X, y, batch_size=1000, epochs=1).history) == 1


@pytest.mark.parametrize("make, words", [
    (lambda: Loader(*blobs(), batch_size=True), "batch_size"), (lambda: Loader(*blobs(), seed=-1), "seed"),
    (lambda: Loader([], []), "at least one"), (lambda: Loader(3.0, 4.0), "same number"),
    (lambda: list(Loader([(np.ones(3), np.ones(2))])), "same number"),
    (lambda: Loader(*blobs()).load_state_dict({"epoch": 1}), "expected"),
    (lambda: Loader(*blobs()).load_state_dict({**Loader(*blobs()).state_dict(), "step": -1}), "step must be"),
])
def test_loaders_say_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "chapter Mini-batches" in str(caught.value)


# The same numbers

def test_where_the_steps_are_cut_does_not_matter(monkeypatch):
    class Look(Callback):
        every = 3

    straight = fit(a_trainer(), batch_size=4)
    assert same(fit(a_trainer(), batch_size=4, callbacks=Look()), straight)
    monkeypatch.setattr("deepnotes.training.epochs._PACE", 1e-9)               # a step at a time
    assert same(fit(a_trainer(), batch_size=4), straight)


def test_the_same_numbers_whatever_else_runs():
    straight, stop = fit(a_trainer(), epochs=8), threading.Event()

    def disturb(seed):
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            a = rng.normal(size=(200, 200)).astype("float32")
            kernels.launch(kernels.matmul, np.empty((200, 200), "float32"), a, a)
            kernels.launch(kernels.tanh, np.empty_like(a), a)
            fit(a_trainer(lr=0.1), epochs=1)

    threads = [threading.Thread(target=disturb, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        results = [fit(a_trainer(), epochs=8) for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(same(result, straight) for result in results)


def test_capture_changes_digits_at_most():
    a, b = state(fit(a_trainer(capture=True), batch_size=7)), state(fit(a_trainer(capture=False), batch_size=7))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_the_training_accuracy_is_counted_batch_by_batch():
    X, y = blobs()
    model = MLP(2, [8], 3, rng=0)
    still = Trainer(model, optimizer=SGD(model.parameters(), lr=0.0))
    assert fit(still, X, y, batch_size=7, epochs=1).history["accuracy"] == [still.score(X, y)]
    soft = np.eye(3, dtype="float32")[y]                                # probabilities of the classes as targets
    assert fit(Trainer(model, optimizer=SGD(model.parameters(), lr=0.0)), X, soft, epochs=1).history["accuracy"] == [
        still.score(X, y)]


def test_probabilities_as_targets_are_captured_and_counted():
    X, y = blobs()
    soft = np.eye(3, dtype="float32")[y] * 0.8 + 0.1
    runs = []
    for capture in (True, False):
        model = MLP(2, [8], 3, rng=0)
        trainer = Trainer(model, optimizer=SGD(model.parameters(), lr=0.1), seed=0, capture=capture)
        runs.append((trainer, fit(trainer, X, soft, epochs=4, batch_size=7).history))
    (fast, history), (_, expected) = runs
    assert fast._step.captured, fast._step.reason
    assert history["accuracy"] == expected["accuracy"] and len(set(history["accuracy"])) > 1
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)


def test_memory_does_not_grow_with_epochs():
    X, y = blobs(64)
    trainer = a_trainer(capture=False)
    fit(trainer, X, y, epochs=20, batch_size=4)
    tracemalloc.start()
    fit(trainer, X, y, epochs=5, batch_size=4)
    before = tracemalloc.take_snapshot()
    fit(trainer, X, y, epochs=100, batch_size=4)
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    grown = sum(entry.size_diff for entry in after.compare_to(before, "filename"))
    assert grown < 100 * 300, "an epoch may leave its row of the history, some hundred bytes"


# Schedules and clipping

class Halve:
    "A schedule like those of PyTorch: half the rate at each step."

    def __init__(self, optimizer):
        self.optimizer, self.last_epoch = optimizer, 0

    def step(self):
        self.last_epoch += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * 0.5 ** self.last_epoch

    def state_dict(self):
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state):
        self.last_epoch = state["last_epoch"]


def scheduled(interval, capture=True):
    model = Linear(1, 1, bias=False, dtype="float64", rng=0)
    optimizer = SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, lambda out, y: (out - y).mean(), optimizer, scheduler=Halve(optimizer), scheduler_interval=interval,
                      capture=capture)
    X = np.ones((6, 1))
    start = model.weight.data[0, 0]
    trainer.fit(X, 0 * X, epochs=2, batch_size=2, progress=False)
    return start - model.weight.data[0, 0], trainer


def test_a_schedule_of_the_library_is_fed_to_captured_steps():
    model = Linear(1, 1, bias=False, dtype="float64", rng=0)
    optimizer = SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, lambda out, y: (out - y).mean(), optimizer, scheduler=ExponentialLR(optimizer, 0.5),
                      scheduler_interval="step")
    X, start = np.ones((6, 1)), model.weight.data[0, 0]
    fit(trainer, X, 0 * X, epochs=2, batch_size=2)
    np.testing.assert_allclose(start - model.weight.data[0, 0], 0.1 * sum(0.5**k for k in range(6)), rtol=1e-12)
    np.testing.assert_allclose(trainer.history["lr"], [0.1 / 8, 0.1 / 64], rtol=1e-15)
    target = np.zeros((6, 1))
    target[trainer._position["epoch"]:] = np.nan                        # which a loss of one's own may know what to do with
    with pytest.raises(FloatingPointError):
        fit(trainer, X, target, batch_size=1, epochs=1)
    assert trainer.scheduler.last_epoch == 6 + trainer._position["step"] < 12


def test_a_plateau_is_measured_once_per_epoch():
    model = Linear(1, 1, bias=False, rng=0)
    optimizer = SGD(model.parameters(), lr=0.0)                         # stands still: never better
    with pytest.raises(ValueError, match="wants a measurement"):
        Trainer(model, "mse_loss", optimizer, scheduler=ReduceLROnPlateau(optimizer), scheduler_interval="step")
    optimizer.param_groups[0]["lr"] = 1e-30
    trainer = Trainer(model, "mse_loss", optimizer, scheduler=ReduceLROnPlateau(optimizer, patience=1, eps=0.0))
    fit(trainer, np.ones((4, 1)), np.zeros((4, 1)), epochs=5)
    np.testing.assert_allclose(trainer.history["lr"], [1e-30, 1e-30, 1e-30, 1e-31, 1e-31])


@pytest.mark.parametrize("capture", [True, False])
def test_a_schedule_moves_on_per_step_or_per_epoch(capture):
    moved, trainer = scheduled("step", capture)                         # the gradient is 1: moves add up the rates
    np.testing.assert_allclose(moved, 0.1 * sum(0.5**k for k in range(6)), rtol=1e-12)
    assert trainer.history["lr"] == [0.1 / 8, 0.1 / 64]
    moved, trainer = scheduled("epoch", capture)
    np.testing.assert_allclose(moved, 3 * 0.1 + 3 * 0.05, rtol=1e-12)
    assert trainer.history["lr"] == [0.1, 0.05] and trainer.optimizer.param_groups[0]["lr"] == 0.025


def test_gradients_are_clipped():
    model = Linear(1, 1, bias=False, dtype="float64", rng=0)
    start = model.weight.data[0, 0]
    trainer = Trainer(model, lambda out, y: 1000.0 * out.mean(), SGD(model.parameters(), lr=1.0), clip_grad_norm=0.5)
    fit(trainer, np.ones((1, 1)), np.ones((1, 1)), epochs=1)
    np.testing.assert_allclose(start - model.weight.data[0, 0], 0.5, rtol=1e-6)
    trainer = Trainer(model, lambda out, y: 1000.0 * out.mean(), SGD(model.parameters(), lr=1.0), clip_grad_value=0.25)
    start = model.weight.data[0, 0]
    fit(trainer, np.ones((1, 1)), np.ones((1, 1)), epochs=1)
    np.testing.assert_allclose(start - model.weight.data[0, 0], 0.25, rtol=1e-6)


@pytest.mark.parametrize("capture", [False, True])
def test_gradients_that_nobody_zeroes_do_not_count_in_the_norm(capture):
    body, head = Linear(1, 1, bias=False, dtype="float64", rng=0), Linear(1, 1, bias=False, dtype="float64", rng=1)
    body.weight.data[...], head.weight.data[...] = 1.0, 1.0
    trainer = Trainer(Sequential(body, head), lambda out, y: 1000.0 * out.mean(), SGD(head.parameters(), lr=1.0),
                      clip_grad_norm=0.5, capture=capture)
    fit(trainer, np.ones((4, 1)), np.ones((4, 1)), epochs=1, batch_size=1)
    np.testing.assert_allclose(head.weight.data, 1.0 - 4 * 0.5, rtol=1e-6)  # the body's gradient grows from step to step
    assert body.weight.data[0, 0] == 1.0


# Trouble

def test_the_layer_where_numbers_end_is_named():
    X, y = blobs()
    model = Sequential(Linear(2, 4, rng=0), ReLU(), Linear(4, 3, rng=1))
    trainer = Trainer(model, optimizer=SGD(model.parameters(), lr=0.1))
    fit(trainer, X, y, epochs=1)
    model[2].weight.data[...] = 3e38
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 1\. It began in the output of layer 2 \(Linear\).*values grew"):
        fit(trainer, X, y, epochs=1)
    model[0].weight.data[1, 2] = np.inf
    with pytest.raises(FloatingPointError, match="It began in the parameter 0.weight.*lower the learning rate"):
        fit(trainer, X, y, epochs=1)


class Spoil(Callback):
    "Write into data that were in order when `fit` looked at them."

    def __init__(self, array, row, value):
        self.place = array, row, value

    def on_epoch_begin(self, trainer):
        array, row, value = self.place
        array[row] = value


@pytest.mark.parametrize("good", [1, 5])                                # of the steps of a segment, the second and the sixth
@pytest.mark.parametrize("capture", [True, False])
def test_the_state_is_that_before_the_step_that_failed(capture, good):
    X, y = blobs(40)
    bad = X.copy()
    loader = Loader(X, y, batch_size=4)
    row = loader.order()[good * 4 + 2]
    trainer = a_trainer(capture=capture)
    with pytest.raises(FloatingPointError, match=rf"epoch 1, step {good + 1}\. It began in the inputs \(row 2 of the batch\)"):
        fit(trainer, bad, y, batch_size=4, callbacks=Spoil(bad, row, np.inf))

    class Stop(Callback):
        every = good

        def on_train_batch_end(self, trainer, step):
            trainer.stop_training = True

    expected = fit(a_trainer(capture=capture), X, y, batch_size=4, callbacks=Stop())
    assert same(trainer, expected) and trainer._sums == expected._sums and len(trainer.history) == 0
    fit(trainer, X, y, batch_size=4)                                    # with clean data it goes on where it stood
    assert same(trainer, fit(a_trainer(capture=capture), X, y, batch_size=4))


def test_a_run_that_diverges_is_told_to_slow_down():
    X, y = blobs()
    model = MLP(2, [16], 1, rng=0)
    trainer = Trainer(model, "mse_loss", SGD(model.parameters(), lr=1e3))
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(trainer, X * 100, y[:, None], epochs=50)
    assert all(np.isfinite(p.data).all() for p in model.parameters())


def test_targets_that_are_no_numbers_are_named():
    X, y = blobs()
    target = y[:, None].astype(float)
    target[3] = np.nan
    with pytest.raises(ValueError, match="y must hold finite numbers.*row 3, column 0"):
        fit(Trainer(MLP(2, [3], 1, rng=0), "mse_loss"), X, target)
    with pytest.raises(FloatingPointError, match="began in the targets"):
        fit(Trainer(MLP(2, [3], 1, rng=0), lambda out, y: (out - y).mean()), X, target)


class Press(Callback):
    "Ctrl-C at a step."

    every = 1

    def __init__(self, epoch, step):
        self.when = epoch, step

    def on_train_batch_end(self, trainer, step):
        if (len(trainer.history), step) == self.when:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("when", [(0, 1), (1, 4), (2, 8)])
def test_after_ctrl_c_the_run_goes_on_exactly_there(when):
    straight, trainer = fit(a_trainer(), batch_size=8), a_trainer()
    with pytest.raises(KeyboardInterrupt, match=f"after {when[0]} epochs") as caught:
        fit(trainer, batch_size=8, callbacks=Press(*when))
    assert f"fit(..., epochs={4 - when[0]})" in str(caught.value) and "save" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.isfinite(trainer.forward(blobs()[0])).all()
    assert same(fit(trainer, batch_size=8, epochs=4 - when[0]), straight)


def test_ctrl_c_in_the_middle_of_a_step_takes_the_step_back():
    class Interrupting(Module):
        def __init__(self):
            self.inner, self.calls = MLP(2, [8], 3, rng=0), 0

        def forward(self, x):
            self.calls += 1
            if self.calls == 5:
                signal.raise_signal(signal.SIGINT)
            return self.inner(x)

    def run(calls):
        model = Interrupting()
        model.calls = calls
        return Trainer(model, optimizer=Adam(model.parameters(), lr=0.02), capture=False)

    straight, trainer = fit(run(100), batch_size=8), run(0)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, batch_size=8)
    assert same(fit(trainer, batch_size=8), straight)


def test_fit_works_in_other_threads():
    results = []
    thread = threading.Thread(target=lambda: results.append(fit(a_trainer())))
    thread.start()
    thread.join()
    assert same(results[0], fit(a_trainer()))


def test_an_error_in_a_step_takes_the_step_back():
    X, y = blobs()
    trainer = fit(a_trainer(), epochs=1)
    before = state(trainer)
    wrong = y.copy()
    wrong[40] = 3
    with pytest.raises(ValueError, match="labels hold class 3"):
        fit(trainer, X, wrong, batch_size=8)
    assert same(before, trainer)
    with pytest.raises(ValueError, match="the input has shape"):
        fit(trainer, X[:, :1], y)


def test_an_epoch_that_was_cut_can_be_dropped():
    trainer = a_trainer()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, batch_size=8, callbacks=Press(0, 3))
    with pytest.raises(ValueError, match="middle of an epoch.*examples was 60 and is 30"):
        fit(trainer, *blobs(30), batch_size=8)
    trainer.restart_epoch()
    assert len(fit(trainer, *blobs(30), batch_size=8, epochs=2).history) == 2


# Callbacks, metrics, records

def test_callbacks_are_called_in_order():
    calls = []

    class Note(Callback):
        every = 2

        def __init__(self, name, last=False):
            self.name, self.last = name, last

        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda trainer, *args: calls.append((object.__getattribute__(self, "name"), name, *map(type, args)))
            return object.__getattribute__(self, name)

    fit(a_trainer(), batch_size=20, epochs=1, callbacks=[Note("z", last=True), Note("a")])
    moments = [("on_train_begin",), ("on_epoch_begin",), ("on_train_batch_end", int), ("on_epoch_end", dict), ("on_train_end",)]
    assert calls == [(name, *moment) for moment in moments for name in "az"]
    with pytest.raises(TypeError, match="callbacks must be Callbacks"):
        fit(a_trainer(), callbacks=[print])


def test_early_stopping_restores_the_best_epoch():
    X, y = blobs(30)
    stopper = EarlyStopping(patience=4)
    trainer = fit(a_trainer(lr=0.1), X, y, epochs=200, batch_size=5, validation=blobs(90, 1), callbacks=stopper)
    losses = trainer.history["val_loss"]
    assert len(losses) == stopper.best_epoch + 4 < 200 and min(losses) == losses[stopper.best_epoch - 1]
    assert trainer.evaluate(*blobs(90, 1))["loss"] == min(losses)
    kept = EarlyStopping(patience=4, restore_best_weights=False)
    trainer = fit(a_trainer(lr=0.1), X, y, epochs=200, batch_size=5, validation=blobs(90, 1), callbacks=kept)
    assert trainer.evaluate(*blobs(90, 1))["loss"] == losses[-1]


@pytest.mark.parametrize("values, patience, min_delta, mode, stops", [
    ([3, 2, 1, 1, 1, 1], 2, 0.0, "auto", 5), ([3, 2.95, 2.92, 2.85], 2, 0.1, "auto", 3), ([1, 2, 3, 2, 2, 2], 3, 0.0, "max", 6),
    ([1, float("nan"), 0.5, float("nan"), float("nan")], 2, 0.0, "min", 5),
])
def test_patience_is_counted_as_said(values, patience, min_delta, mode, stops):
    class Run:
        stop_training, model, history = False, MLP(1, [], 1), []

    stopper, run = EarlyStopping("loss", patience, min_delta, mode, False), Run()
    stopper.on_train_begin(run)
    for epoch, value in enumerate(values, 1):
        stopper.on_epoch_end(run, {"loss": value})
        assert run.stop_training == (epoch >= stops)


def test_the_best_epoch_is_saved_apart(tmp_path):
    trainer = fit(a_trainer(lr=0.1), *blobs(30), epochs=40, batch_size=5, validation=blobs(90, 1),
                  callbacks=Checkpoint(tmp_path / "last", best=tmp_path / "best"))
    losses = trainer.history["val_loss"]
    best = Trainer.load(tmp_path / "best")
    assert len(best.history) == np.argmin(losses) + 1 < 40 and best.evaluate(*blobs(90, 1))["loss"] == min(losses)
    assert len(Trainer.load(tmp_path / "last").history) == 40


def test_metrics_by_name_and_by_function():
    X, y = blobs()
    target = (X @ [[1.0], [2.0]]).astype("float32")

    def largest(out, t):
        return np.abs(out - t).max()

    trainer = fit(Trainer(MLP(2, [8], 1, rng=0), "mse_loss", metrics=["r2_score", "mean_absolute_error", largest]), X, target,
                  epochs=3, validation=(X[:20], target[:20]))
    row = {name: column[-1] for name, column in trainer.history.columns.items()}
    out = trainer.forward(X[:20])
    assert row["val_largest"] == largest(out, target[:20]) and list(row)[:3] == ["epoch", "loss", "val_loss"]
    np.testing.assert_allclose(row["val_mean_absolute_error"], np.abs(out - target[:20]).mean(), rtol=1e-6)
    expected = 1 - ((out - target[:20])**2).sum() / ((target[:20] - target[:20].mean())**2).sum()
    np.testing.assert_allclose(row["val_r2_score"], expected, rtol=1e-5)
    alone = fit(Trainer(MLP(2, [8], 1, rng=0), "mse_loss", metrics=largest), X, target, epochs=1)
    assert list(alone.history.columns) == ["epoch", "loss", "largest"]
    with pytest.raises(ValueError, match="a metric must be callable or one of mean_absolute_error"):
        Trainer(MLP(2, [8], 1), "mse_loss", metrics=["accuracy"])


def test_diagnosing_changes_nothing_and_measures_the_next_step():
    X, y = blobs()
    model = Sequential(Linear(2, 6, rng=0), ReLU(), Linear(6, 3, rng=1))
    model[0].bias.data[:2] = -1e3                                       # two units are dead
    trainer = Trainer(model, optimizer=Adam(model.parameters(), lr=0.01))
    fit(trainer, epochs=2)
    before, steps = state(trainer), [s["step"].copy() for s in trainer.optimizer.state.values()]
    seen = trainer.diagnose(X, y)
    assert same(before, trainer) and steps == [s["step"] for s in trainer.optimizer.state.values()]
    assert model.training and list(seen["activations"]) == ["0", "1", "2"] and seen["dead"] == {"1": 2 / 6}
    old = model[2].weight.data.copy()
    plain_step(trainer)(X, y)
    ratio = np.linalg.norm(model[2].weight.data - old) / np.linalg.norm(old)
    np.testing.assert_allclose(seen["update_ratio"]["2.weight"], ratio, rtol=1e-6)
    np.testing.assert_allclose(seen["gradient_norm"]["2.weight"], np.linalg.norm(model[2].weight.grad.data), rtol=1e-6)


def test_diagnostics_do_not_disturb_training():
    look = Diagnostics(*blobs(30, 1))
    assert same(fit(a_trainer(), callbacks=look), fit(a_trainer()))
    assert look.epochs == [1, 2, 3, 4] and all(counts.sum() == 30 * 8 for counts in look.histograms["0"])
    import matplotlib
    matplotlib.use("Agg")
    assert [ax.get_ylabel() for ax in look.plot()] == ["gradient norm", "update / weight", "share of dead units"]
    assert look.plot_activations("1").get_xlabel() == "epoch"


def test_a_notebook_shows_the_history_as_a_table():
    history = fit(a_trainer(), epochs=20).history
    table = history._repr_html_()
    assert table.count("<tr>") == 13 and ">accuracy</th>" in table and "…" in table and ">20</td>" in table
    assert "<table>" in History()._repr_html_()


def test_progress_in_a_terminal_and_in_a_log(monkeypatch, capsys):
    a_trainer().fit(*blobs(), epochs=3, progress=True)
    log = capsys.readouterr().err
    assert [line.split(":")[0] for line in log.splitlines()] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"] and "\r" not in log
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    a_trainer().fit(*blobs(), epochs=3, batch_size=10)
    bar = capsys.readouterr().err
    assert "18/18" in bar and "loss=" in bar
    a_trainer().fit(*blobs(), epochs=3, progress=False)
    assert capsys.readouterr().err == ""


def test_no_epochs_are_no_error():
    trainer = a_trainer()
    before = state(trainer)
    assert len(trainer.fit(*blobs(), epochs=0, progress=False)) == 0 and same(before, trainer)


@pytest.mark.parametrize("call, words", [
    (lambda: a_trainer(scheduler_interval="batch"), "scheduler_interval"), (lambda: a_trainer(clip_grad_norm=0), "clip_grad_norm"),
    (lambda: a_trainer().fit(Loader(*blobs()), blobs()[1]), "brings its targets"), (lambda: a_trainer().fit(blobs()[0]), "y is missing"),
    (lambda: a_trainer(metrics=[len, len]), "two columns"), (lambda: Checkpoint("x", every=0), "every must be"),
])
def test_errors_teach(call, words):
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "chapter" in str(caught.value)


def test_the_loss_function_decides_and_not_its_name():
    X, y = blobs()
    own = Trainer(MLP(2, [4], 3, rng=0), lambda out, t: outputs.cross_entropy(out, t, label_smoothing=0.1))
    assert list(fit(own, X, y, epochs=1).history.columns) == ["epoch", "loss"]
    assert isinstance(own.model(Tensor(X)), Tensor) and os.name


# What surprised a reader

def test_a_history_answers_like_a_table():
    history = fit(a_trainer(), epochs=2).history
    assert "loss" in history and "val_loss" not in history
    assert list(history) == ["epoch", "loss", "accuracy"] and len(history) == 2


def test_an_embedding_gets_integers():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 12, 200)

    def trainer(capture):
        model = Sequential(Embedding(12, 8, rng=0), Linear(8, 3, rng=0))
        return Trainer(model, optimizer=Adam(model.parameters(), lr=0.05), capture=capture)

    runs = [fit(trainer(capture), words, words % 3, epochs=10, validation=(words, words % 3)) for capture in (True, False)]
    assert all(run.score(words, words % 3) == 1 for run in runs)
    assert runs[0]._step.captured and runs[0].predict(words[:4].astype("uint8")).shape == (4,)


@pytest.mark.parametrize("capture", [True, False])
def test_ignored_labels_count_neither_in_the_loss_nor_in_the_accuracy(capture):
    X, y = blobs(64)
    some = np.where(np.arange(64) % 5 < 2, -100, y)
    some[:16] = y[:16]                                              # batches with different numbers of labels
    still = MLP(2, [8], 3, rng=0)
    trainer = Trainer(still, optimizer=SGD(still.parameters(), lr=1e-30), capture=capture)
    trainer.fit(Loader(X, some, batch_size=16, shuffle=False), epochs=1, validation=(X, some), progress=False)
    trainer.fit(Loader([(X[k:k + 16], some[k:k + 16]) for k in range(0, 64, 16)]), epochs=1, progress=False)
    kept = some != -100
    assert trainer.history["accuracy"] == [trainer.score(X[kept], y[kept])] * 2 == [trainer.score(X, some)] * 2
    loss = outputs.cross_entropy(Tensor(trainer.forward(X)[kept]), y[kept]).item()
    np.testing.assert_allclose([*trainer.history["loss"], trainer.history["val_loss"][0]], loss, rtol=1e-6)
    with pytest.raises(FloatingPointError, match="every label of the batch is -100"):
        trainer.fit(X, np.full(64, -100), epochs=1, progress=False)
    with pytest.raises(ValueError, match="nothing is left to measure"):
        trainer.evaluate(X, np.full(64, -100))


def test_an_update_of_a_parameter_that_is_zero_has_no_ratio():
    ratios = a_trainer().diagnose(*blobs())["update_ratio"]
    assert ratios["0.bias"] == np.inf and 0 < ratios["0.weight"] < 1


def test_pictures_are_drawn_in_the_books_look():
    import matplotlib
    matplotlib.use("Agg")
    from deepnotes.plotting import rc_params
    look = Diagnostics(*blobs(), bins=[-1.0, 0.0, 3.0])
    axes = fit(a_trainer(), callbacks=look).history.plot()
    for ax in (*axes, *look.plot(), look.plot_activations("0")):
        assert matplotlib.colors.same_color(ax.xaxis.label.get_color(), rc_params()["axes.labelcolor"])


def a_pair(optimizer_of=lambda model: Adam(model.parameters()), **settings):
    model, other = MLP(2, [8], 3, rng=0), MLP(2, [8], 3, rng=0)
    settings = {name: make(other) if callable(make) and name == "scheduler" else make for name, make in settings.items()}
    return Trainer(model, optimizer=optimizer_of(other) if settings.pop("foreign", False) else optimizer_of(model), **settings)


NOW = {"epochs": 1, "progress": False}


@pytest.mark.parametrize("call, error, words", [
    (lambda: a_pair(foreign=True), ValueError, "moves no parameter of this model"),
    (lambda: a_pair(scheduler=lambda other: ExponentialLR(Adam(other.parameters()), 0.9)), ValueError, "belongs to another optimizer"),
    (lambda: a_trainer(scheduler="cosine"), TypeError, "scheduler must be an LRScheduler"),
    (lambda: a_trainer(metrics=3), TypeError, "metrics must be names or functions"),
    (lambda: a_trainer(clip_grad_norm="1"), ValueError, "clip_grad_norm must be positive and finite"),
    (lambda: a_trainer(loss=lambda out, y: 1.0).fit(*blobs(), **NOW), TypeError, "one entry.*got float"),
    (lambda: a_trainer(loss=lambda out, y: outputs.cross_entropy(out, y, reduction="none")).fit(*blobs(), **NOW), TypeError,
     r"one entry.*got one of shape \(32,\)"),
    (lambda: a_trainer(metrics=[lambda out, y: out]).fit(*blobs(), **NOW), TypeError, r"must return a number.*\(60, 3\)"),
    (lambda: a_trainer().fit(*blobs(), validation=0.2, **NOW), TypeError, "must be a pair .* got float"),
    (lambda: a_trainer().fit(*blobs(), validation=Loader(*blobs()), **NOW), TypeError, "must be a pair .* got Loader"),
    (lambda: a_trainer().fit(*blobs(), callbacks=EarlyStopping, **NOW), TypeError, "the class EarlyStopping"),
    (lambda: a_trainer().fit(blobs()[0] + 1j, blobs()[1], **NOW), TypeError, "X must hold real numbers, got dtype complex"),
    (lambda: a_trainer().predict([["a", "b"]]), TypeError, "X must hold real numbers"),
    (lambda: a_trainer().evaluate(3.0, 1), ValueError, r"shapes \(\) and \(\)"),
    (lambda: EarlyStopping(min_delta=float("nan")), ValueError, "EarlyStopping: min_delta"),
    (lambda: EarlyStopping(monitor=None), ValueError, "EarlyStopping: monitor must name"),
    (lambda: Checkpoint(None), TypeError, "path must be the path of a file"),
    (lambda: Checkpoint("a", best=3), TypeError, "best must be the path of a file"),
    (lambda: Diagnostics(*blobs(), bins=[0]), ValueError, "two or more edges"),
    (lambda: Loader([(1, 2)]).order(), TypeError, "an iterable come as they come"),
    (lambda: Loader(*blobs()).order(-1), ValueError, "epoch must be an integer"),
    (lambda: Loader(*blobs()).load_state_dict(None), ValueError, "expected a dict"),
    (lambda: Loader(*blobs()).load_state_dict({**Loader(*blobs()).state_dict(), "step": 3}), ValueError, "step 3 of an epoch of 2"),
])
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter" in str(caught.value)


@pytest.mark.parametrize("every", [0, -2, 2.5, True])
def test_a_callback_that_wants_to_be_called_never_is_refused(every):
    callback = Callback()
    callback.every = every
    with pytest.raises(ValueError, match="Callback.every must be a positive integer"):
        a_trainer().fit(*blobs(), callbacks=callback, **NOW)


def test_no_callbacks_and_no_metrics_may_be_none():
    assert len(fit(a_trainer(metrics=None), callbacks=None, epochs=1).history) == 1


def test_an_archive_is_no_array(tmp_path):
    np.savez(tmp_path / "both.npz", X=blobs()[0])
    with pytest.raises(ValueError, match="archive of several arrays"):
        Loader(tmp_path / "both.npz", blobs()[1])


def test_the_trainer_fits_on_two_screens():
    "What a run is and in which order things happen; each thing has a room of its own."
    [trainer] = [node for node in ast.parse(Path(inspect.getsourcefile(Trainer)).read_text(encoding="utf-8")).body
                 if isinstance(node, ast.ClassDef)]
    lines = {line for node in ast.walk(trainer) if hasattr(node, "lineno") for line in (node.lineno, node.end_lineno)}
    documented = [node.body[0] for node in ast.walk(trainer) if isinstance(node, ast.FunctionDef | ast.ClassDef)
                  and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)]
    prose = {line for node in documented for line in range(node.lineno, node.end_lineno + 1)}
    assert len(lines - prose) <= 150
