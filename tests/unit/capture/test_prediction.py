"""Outputs without gradients: programs give the same bits as Python, whatever the model, the rows, the threads and the modes."""
import copy
import importlib
import pickle
import threading

import numpy as np
import pytest

from deepnotes import kernels, optimizers
from deepnotes.autograd import Tensor, no_grad
from deepnotes.capture import Prediction
from deepnotes.capture.prediction import BLOCK, TIMES
from deepnotes.convolution import Conv2d, MaxPool2d
from deepnotes.layers import MLP, BatchNorm1d, Embedding, Flatten, Linear, Module, ReLU, Sequential
from deepnotes.training import Trainer
from deepnotes.training.callbacks import Callback

OFTEN = TIMES + 3                       # so often until a program runs
compiled = pytest.mark.skipif(kernels.default_backend() != "numba", reason="programs are compiled loops")


class Residual(Module):
    def __init__(self):
        self.inner = MLP(6, [6], 6, rng=0)

    def forward(self, x):
        return (x + self.inner(x)).tanh()


MODELS = {
    "mlp": lambda: MLP(6, [8, 5], 3, rng=0),
    "batch norm": lambda: Sequential(Linear(6, 8, rng=0), BatchNorm1d(8), ReLU(), Linear(8, 3, rng=1)),
    "dropout": lambda: MLP(6, [8], 3, rng=0, dropout=0.5),
    "convolution": lambda: Sequential(Conv2d(1, 2, 3, rng=0), ReLU(), MaxPool2d(2), Flatten(), Linear(8, 3, rng=1)),
    "embedding": lambda: Sequential(Embedding(7, 4, rng=0), Flatten(), Linear(8, 3, rng=1)),
    "residual": Residual,
}


def rows(name, n, seed=0):
    rng = np.random.default_rng(seed)
    if name == "embedding":
        return rng.integers(0, 7, (n, 2))
    return rng.normal(size=(n, 1, 6, 6) if name == "convolution" else (n, 6)).astype("float32")


def by_python(model, X):
    "What the model gives in evaluation mode, launch by launch."
    twin = copy.deepcopy(model).eval()
    with no_grad():
        return np.concatenate([twin(Tensor(X[k:k + BLOCK])).data for k in range(0, max(1, len(X)), BLOCK)])


def warmed(model, X, **settings):
    prediction = Prediction(model, **settings)
    for _ in range(OFTEN):
        prediction(X)
    return prediction


def modes(model):
    return [module.training for module in model.modules()]


def moved(model):
    "The model after some steps of training, so that running statistics are not those of the start."
    for module in model.modules():
        if isinstance(module, BatchNorm1d):
            module.running_mean[...] = np.linspace(-1, 1, module.running_mean.size)
            module.running_var[...] = np.linspace(0.5, 2, module.running_var.size)
    return model


# ---- the same bits

@pytest.mark.parametrize("name", MODELS)
def test_a_program_gives_the_same_bits_for_any_number_of_rows(name):
    model = moved(MODELS[name]())
    model.modules()[-1].training = False                            # one layer is frozen, say
    before, prediction = modes(model), Prediction(model)
    for n in (0, 1, 31, 32, 33, 1000):
        for k in range(OFTEN):
            X = rows(name, n, seed=k)
            assert np.array_equal(prediction(X), by_python(model, X)), (n, k)
        assert prediction.captured == (n > 0 and kernels.default_backend() == "numba"), (n, prediction.reason)
    assert modes(model) == before


@pytest.mark.parametrize("name", MODELS)
def test_the_numpy_backend_stays_plain(name):
    model, X = MODELS[name](), rows(name, 5)
    with kernels.backend("numpy"):
        prediction = warmed(model, X)
        assert np.array_equal(prediction(X), by_python(model, X))
    assert not prediction.captured
    if kernels.default_backend() == "numba":
        with kernels.backend("numpy"):
            assert prediction.reason == "the numpy backend runs no compiled loops"


@compiled
def test_a_program_gives_way_where_launches_are_listed_or_numpy_is_asked_for():
    model, X = MODELS["mlp"](), rows("mlp", 3)
    prediction = warmed(model, X)
    with kernels.recording() as launches:
        prediction(X)
    assert {launch.kernel.name for launch in launches} >= {"matmul", "add"} and not prediction.captured
    with kernels.backend("numpy"):
        prediction(X)
        assert not prediction.captured
    prediction(X)
    assert prediction.captured


def test_more_rows_than_a_block():
    model, X = MODELS["mlp"](), rows("mlp", 2 * BLOCK + 5)
    prediction = Prediction(model)
    for k in range(OFTEN):
        assert np.array_equal(prediction(X), by_python(model, X)), k


@pytest.mark.parametrize("layout", ["fortran", "reversed", "unaligned", "read-only"])
def test_rows_lie_in_memory_as_they_like(layout):
    model = MLP(700, [5], 700, rng=0)
    prediction = Prediction(model)
    for k in range(OFTEN):
        X = np.random.default_rng(k).normal(size=(30, 700)).astype("float32")
        plain = by_python(model, X)
        if layout == "fortran":
            X = np.asfortranarray(X)
        elif layout == "reversed":
            X = X[::-1].copy()[::-1]
        elif layout == "unaligned":
            X = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
        else:
            X.flags.writeable = False
        before = X.tobytes()
        np.testing.assert_allclose(prediction(X), plain, rtol=1e-5, atol=1e-5)
        assert X.tobytes() == before


@pytest.mark.parametrize("size", [3, 5000])
def test_answers_are_memory_of_their_own(size):
    "Also where the model gives back its input, a part of it, or a parameter; small answers are copied, large ones written."
    class Given(Module):
        def __init__(self, kind):
            self.kind, self.kept = kind, Linear(size, size, bias=False, rng=0) if size < 9 else None

        def forward(self, x):
            return {"itself": x, "a part": x[:, 1:], "sum": x + 1.0}[self.kind]

    for kind in ("itself", "a part", "sum"):
        prediction, answers = Prediction(Given(kind)), []
        X = np.arange(4 * size, dtype=np.float32).reshape(4, size)
        plain = {"itself": X, "a part": X[:, 1:], "sum": X + 1}[kind].copy()
        for _ in range(OFTEN):
            answers.append(prediction(X))
        assert all(np.array_equal(answer, plain) for answer in answers)
        answers[-1][...] = 7
        answers[0][...] = 8
        assert np.array_equal(prediction(X), plain)


class Adding(Module):
    "It writes into what it is given."

    def forward(self, x):
        x += 1.0
        return x * 2.0


@pytest.mark.parametrize("n", [2, 9000])
def test_a_model_that_writes_into_its_input_does_so_in_a_program_as_in_python(n):
    prediction = Prediction(Adding())
    for _ in range(OFTEN):
        X = np.zeros((n, 1), np.float32)
        assert np.array_equal(prediction(X), np.full((n, 1), 2, np.float32))


# ---- what changes in between

@compiled
@pytest.mark.parametrize("name", ["mlp", "batch norm", "convolution"])
def test_weights_count_as_they_are_at_the_call(name):
    model, X = MODELS[name](), rows(name, 4)
    prediction = warmed(model, X)

    def same():
        return np.array_equal(prediction(X), by_python(model, X))

    for p in model.parameters():                                        # in place, as an optimizer does
        p.data[...] += np.float32(0.25)
    assert same() and prediction.captured
    model.load_state_dict(copy.deepcopy(MODELS[name]()).state_dict())
    assert same()
    moved(model)
    assert same()
    first = model.parameters()[0]
    first.data = first.data * np.float32(2)                             # another array
    assert same() and not prediction.captured
    assert all(same() for _ in range(OFTEN)) and prediction.captured


@compiled
def test_a_layer_that_is_exchanged_counts_at_once():
    model, X = MODELS["mlp"](), rows("mlp", 4)
    prediction, last = warmed(model, X), len(model) - 1
    model[last] = Linear(5, 2, rng=9)
    assert prediction(X).shape == (4, 2)
    hooked = model.register_forward_hook(lambda module, args, out: out * 2.0)
    assert np.array_equal(prediction(X), by_python(model, X))
    hooked.remove()
    assert np.array_equal(prediction(X), by_python(model, X))


@compiled
def test_what_is_changed_again_and_again_is_left_to_python():
    model, X = MODELS["mlp"](), rows("mlp", 2)
    prediction = Prediction(model)
    for _ in range(8 * OFTEN):
        if prediction.captured:
            model.parameters()[0].data = model.parameters()[0].data.copy()
        prediction(X)
    assert "is changed again and again" in prediction.reason


class Counting(Module):
    def __init__(self):
        self.inner, self.calls = Linear(6, 3, rng=0), 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


class Switching(Module):
    def __init__(self):
        self.inner, self.told = Linear(6, 3, rng=0), []

    def train(self, mode=True):
        self.told.append(mode)
        return super().train(mode)

    def forward(self, x):
        return self.inner(x)


@compiled
def test_what_cannot_be_a_program_stays_python_with_its_reason():
    X = rows("mlp", 3)
    counting = Counting()
    prediction = warmed(counting, X)
    for _ in range(OFTEN):
        prediction(X)
    assert counting.calls == 2 * OFTEN and "'calls'" in prediction.reason, "no call more, and none less"
    prediction = warmed(Switching(), X)
    assert not prediction.captured and "switches its mode by code of its own" in prediction.reason
    prediction = warmed(MODELS["mlp"](), X, capture=False)
    assert prediction.reason == "capture=False"
    fresh = Prediction(MODELS["mlp"]())
    fresh(X)
    assert str(TIMES) in fresh.reason
    with pytest.raises(TypeError, match="Prediction: expected a Module, got function"):
        Prediction(lambda x: x)


def test_recording_calls_the_model_no_more_often_than_python_does():
    class Noting(Module):
        def forward(self, x):
            said.append(len(x))
            return x * 2.0

    said, prediction = [], Prediction(Noting())
    for _ in range(OFTEN):
        prediction(rows("mlp", 2))
    assert said == [2] * OFTEN


# ---- errors

@pytest.mark.parametrize("settings", [{}, {"capture": False}])
def test_errors_are_those_of_python_and_leave_modes_alone(settings):
    model, X = moved(MODELS["embedding"]()), rows("embedding", 3)
    prediction = warmed(model, X, **settings)
    wrong = X.copy()
    wrong[1, 0] = 99
    with pytest.raises(IndexError) as plain, no_grad():
        copy.deepcopy(model).eval()(Tensor(wrong))
    for _ in range(2):
        with pytest.raises(IndexError) as found:
            prediction(wrong)
        assert str(found.value) == str(plain.value) and all(modes(model))
        assert np.array_equal(prediction(X), by_python(model, X))


def test_an_error_while_it_is_recorded_is_no_end():
    model, X = MODELS["embedding"](), rows("embedding", 3)
    prediction, wrong = Prediction(model), np.full((3, 2), 99)
    for k in range(2 * OFTEN):
        if k % 2:
            with pytest.raises(IndexError):
                prediction(wrong)
            assert all(modes(model))
        else:
            assert np.array_equal(prediction(X), by_python(model, X))
    with pytest.raises(ValueError, match="Linear"):
        Prediction(MODELS["mlp"]())(np.zeros((3, 5), np.float32))


# ---- threads

@pytest.mark.parametrize("name", ["batch norm", "dropout"])
def test_threads_that_ask_at_once_get_right_answers(name):
    model = moved(MODELS[name]())
    trainer, wrong = Trainer(model), []
    inputs = [rows(name, n, seed) for seed in range(8) for n in (1, 32, 700)]
    answers = [by_python(model, X) for X in inputs]
    begin = threading.Barrier(4)

    def ask(first):
        try:
            begin.wait()
            for k in range(4 * len(inputs)):
                which = (first + k) % len(inputs)
                if not np.array_equal(trainer.forward(inputs[which]), answers[which]):
                    wrong.append(which)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(5 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and all(modes(model))


def test_who_trains_waits_for_nobody_and_is_refused_while_others_ask():
    class Slow(Module):
        def __init__(self):
            self.inner = Linear(6, 3, rng=0)

        def forward(self, x):
            if not said:
                inside.set()
                go_on.wait(60)
            return self.inner(x)

    inside, go_on, said = threading.Event(), threading.Event(), []
    trainer = Trainer(Slow())
    thread = threading.Thread(target=lambda: trainer.predict(rows("mlp", 2)))
    thread.start()
    assert inside.wait(60)
    with pytest.raises(RuntimeError, match="Trainer.fit: called from another thread while a prediction is at work"):
        trainer.fit(rows("mlp", 4), np.zeros(4, int), epochs=1, progress=False)
    said.append("go")
    go_on.set()
    thread.join()
    trainer.fit(rows("mlp", 4), np.zeros(4, int), epochs=1, progress=False)


# ---- memory, copies

@compiled
def test_programs_are_few_however_many_row_counts_come(monkeypatch):
    module = importlib.import_module("deepnotes.capture.prediction")
    for name, value in {"TIMES": 1, "KEPT": 3, "ROOM": 200_000}.items():
        monkeypatch.setattr(module, name, value)
    prediction = Prediction(MODELS["mlp"]())
    for n in range(1, 7):
        for _ in range(5):
            prediction(rows("mlp", n))
    assert prediction.captured and [shape[0] for shape, _ in sorted(prediction._programs, key=str)] == [4, 5, 6]
    for n in range(50, 90):
        prediction(rows("mlp", n))
    assert len(prediction._calls) <= 12
    wide = Prediction(MLP(600, [4], 600, rng=0))
    for n in (30, 31, 32):
        for _ in range(5):
            wide(np.zeros((n, 600), np.float32))
        assert wide.captured and len(wide._programs) == 1, "two would be too large"
    for n in range(200, 204):
        for _ in range(5):
            assert wide(np.zeros((n, 600), np.float32)).shape == (n, 600)
        assert not wide.captured and "of memory" in wide.reason
    wide(np.zeros((32, 600), np.float32))
    assert wide.captured, "fewer rows have their program still"


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_ask_a_model_of_their_own(way):
    X = rows("mlp", 3)
    prediction = warmed(MODELS["mlp"](), X)
    trainer = Trainer(MODELS["mlp"]())
    for _ in range(OFTEN):
        trainer.forward(X)
    before = trainer.forward(X)
    twin = way(trainer)
    for p in twin.model.parameters():
        p.data[...] = 0
    for _ in range(OFTEN):
        assert not twin.forward(X).any() and np.array_equal(trainer.forward(X), before)
    if way is not copy.copy:
        other = way(prediction)
        assert np.array_equal(other(X), prediction(X)) and other.model is not prediction.model


# ---- through the Trainer

@pytest.mark.parametrize("capture", [True, False])
def test_a_trainer_predicts_before_within_and_after_training(capture):
    X, y = rows("mlp", 32), np.arange(32) % 3
    model, seen = moved(MODELS["batch norm"]()), []

    class Looking(Callback):
        def on_epoch_end(self, trainer, row):
            before = modes(model)
            seen.append(np.array_equal(trainer.forward(X), by_python(model, X)) and modes(model) == before)

    trainer = Trainer(model, optimizer=optimizers.SGD(model.parameters(), lr=0.1), capture=capture)
    for _ in range(OFTEN):
        trainer.predict(X)
    trainer.fit(X, y, epochs=2 * OFTEN, batch_size=8, validation=(X, y), callbacks=Looking(), progress=False)
    assert seen == [True] * 2 * OFTEN and all(modes(model))
    outputs = by_python(model, X)
    assert np.array_equal(trainer.predict(X), outputs.argmax(axis=1))
    assert trainer.evaluate(X, y)["accuracy"] == np.mean(outputs.argmax(axis=1) == y)
    assert trainer.prediction.captured == (capture and kernels.default_backend() == "numba"), trainer.prediction.reason
    other = trainer.model = MODELS["batch norm"]()
    assert np.array_equal(trainer.forward(X), by_python(other, X))


def test_training_does_not_depend_on_who_looked():
    "Predictions in between change no bit of a run, dropout included."
    X, y, runs = rows("mlp", 32), np.arange(32) % 3, []

    class Looking(Callback):
        def on_epoch_end(self, trainer, row):
            for _ in range(5):
                trainer.predict(X)

    for callbacks in ((), (Looking(),)):
        model = MODELS["dropout"]()
        Trainer(model).fit(X, y, epochs=6, batch_size=8, callbacks=callbacks, progress=False)
        runs.append([p.data.copy() for p in model.parameters()])
    assert all(np.array_equal(a, b) for a, b in zip(*runs, strict=True))
