"""Checkpoints: what is stored comes back, what is not intact is refused, and a killed run ends where it would have ended."""
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import safetensors.numpy
from conftest import ROOT

from deepnotes import checkpoints, layers, schedules
from deepnotes.autograd import Tensor
from deepnotes.layers import MLP, Linear, Module, Sequential
from deepnotes.optimizers import SGD, Adam, AdamW
from deepnotes.training import Trainer
from deepnotes.training.callbacks import Checkpoint, EarlyStopping
from deepnotes.training.checkpoints import CheckpointError

# tests/data/safetensors_corpus.npz is packed by tests/data/make_safetensors_corpus.py
CORPUS = np.load(ROOT / "tests" / "data" / "safetensors_corpus.npz")


def same(a, b):
    "Equal trees, arrays bit for bit."
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, 2)) + 3 * np.array([[0, 0], [0, 1], [1, 0]])[y]).astype("float32"), y


def a_trainer(seed=0, **settings):
    model = MLP(2, [8], 3, rng=seed)
    return Trainer(model, optimizer=Adam(model.parameters(), lr=0.02), seed=seed, **settings)


TREE = {
    "a": np.arange(6, dtype="float32").reshape(2, 3), "b": [1, 2.5, -0.0, float("inf"), float("-inf"), float("nan"), None],
    "nested": {"t": (1, (2, [np.array(3, "int64"), True])), "": np.zeros((0, 4), bool), 7: "seven"},
    "text": "ünïcode\n\0", "u": np.array([2**64 - 1], "uint64"), "big": 2**70, "f8": np.array([np.nan, -0.0, 5e-324]),
}


def test_a_tree_comes_back_bit_for_bit(tmp_path):
    checkpoints.save(TREE, tmp_path / "t")
    back = checkpoints.load(tmp_path / "t")
    assert same(back, TREE)
    back["a"][0, 0] = 9                                                     # a copy that can be written to
    assert [p.name for p in tmp_path.iterdir()] == ["t"]
    assert set(safetensors.numpy.load_file(tmp_path / "t")) == {"a", "nested/t/1/1/0", "nested/", "u", "f8"}


def test_arrays_that_are_views_or_swapped_are_stored_as_they_look(tmp_path):
    a = np.arange(12.0).reshape(3, 4)
    checkpoints.save({"t": a.T, "s": a[::2, ::-1], "big": a.astype(">f8")}, tmp_path / "t")
    back = checkpoints.load(tmp_path / "t")
    for name, expected in (("t", a.T), ("s", a[::2, ::-1]), ("big", a)):
        np.testing.assert_array_equal(back[name], expected)


@pytest.mark.parametrize("tree, words", [
    ({"f": len}, "f is a builtin"), ({"x": {"y": object()}}, "x/y is a object"), ({"x": np.array(["a"])}, "dtype <U1"),
    ({"x": np.array([None])}, "dtype object"), ({1.5: 0}, "key 1.5"), ({"c": 1j}, "c is a complex"),
])
def test_what_is_no_plain_data_is_not_stored(tmp_path, tree, words):
    with pytest.raises(TypeError, match=words):
        checkpoints.save(tree, tmp_path / "t")
    assert not list(tmp_path.iterdir())


def test_an_older_file_survives_a_failed_write(tmp_path, monkeypatch):
    path = tmp_path / "t"
    checkpoints.save({"a": 1}, path)

    def no_space(*_):
        raise OSError("no space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, no_space)
            with pytest.raises(OSError, match="no space"):
                checkpoints.save({"a": 2}, path)
        assert checkpoints.load(path) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["t"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    (tmp_path / f".t.{gone.pid}.part").write_bytes(b"half")
    (tmp_path / f".t.{os.getppid()}.part").write_bytes(b"somebody is writing this")
    checkpoints.save({"a": 1}, tmp_path / "t")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".t.{os.getppid()}.part", "t"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "t").symlink_to(tmp_path / "real" / "t")
    checkpoints.save({"a": 1}, tmp_path / "t")
    assert (tmp_path / "t").is_symlink() and checkpoints.load(tmp_path / "real" / "t") == {"a": 1}


@pytest.mark.parametrize("name", CORPUS.files)
def test_foreign_and_malformed_files_are_refused(tmp_path, name):
    (tmp_path / "f").write_bytes(CORPUS[name].tobytes())
    with pytest.raises(CheckpointError, match="safetensors file"):
        checkpoints.load(tmp_path / "f")


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "t"
    checkpoints.save({"w": np.arange(4.0), "lr": 0.1}, path)
    good = path.read_bytes()
    bad = [good[:n] for n in range(0, len(good), 3)] + [good + b"\0"]
    bad += [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1:] for i in range(len(good))]
    harmless = 0
    for data in bad:
        path.write_bytes(data)
        try:
            back = checkpoints.load(path)
        except CheckpointError:
            continue
        harmless += 1                                       # such as another space in the header's padding
        assert same(back, {"w": np.arange(4.0), "lr": 0.1})
    assert harmless <= 8, "only what carries no meaning may change unnoticed"


def edited(path, **changes):
    "A checkpoint with other metadata."
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + n:])


def with_tree(path, tree):
    "A file with any tree text and the sum that belongs to it: what a malicious author would write."
    metadata = {"format": checkpoints.FORMAT, "version": "1", "tree": tree, "sha256": checkpoints._digest(tree, {})}
    safetensors.numpy.save_file({}, path, metadata)


def test_unknown_versions_and_other_formats_are_named(tmp_path):
    path = tmp_path / "t"
    for change, words in (({"version": "2"}, "version '2'; this library reads version 1"), ({"format": "other"}, "not a checkpoint"),
                          ({"sha256": "0"}, "was altered"), ({"tree": "{}"}, "was altered")):
        checkpoints.save({"w": np.arange(4.0)}, path)
        edited(path, **change)
        with pytest.raises(CheckpointError, match=words):
            checkpoints.load(path)
    with pytest.raises(FileNotFoundError):
        checkpoints.load(tmp_path / "nothing")


@pytest.mark.parametrize("tree", ["", "[", '{"array": "w"}', '{"eval": "1"}', '{"dict": [[1]]}', '{"dict": [[[], 1]]}', "{}",
                                  '{"float": "1"}', '{"a": 1, "b": 2}', '{"dict": 3}', "[" * 100_000 + "]" * 100_000])
def test_trees_without_sense_are_refused(tmp_path, tree):
    with_tree(tmp_path / "t", tree)
    with pytest.raises(CheckpointError):
        checkpoints.load(tmp_path / "t")


def test_models_of_the_librarys_layers_are_rebuilt():
    model = Sequential(layers.Flatten(), Linear(12, 5, bias=False), layers.LeakyReLU(0.3),
                       Sequential(Linear(5, 4), layers.Tanh()), MLP(4, [3], 2, activation="sigmoid"))
    twin = checkpoints.build(json.loads(json.dumps(checkpoints.describe(model))))
    assert repr(twin) == repr(model) and [type(m) for m in twin.modules()] == [type(m) for m in model.modules()]
    twin.load_state_dict(model.state_dict())
    x = Tensor(np.random.default_rng(0).normal(size=(3, 3, 4)).astype("float32"))
    np.testing.assert_array_equal(twin(x).numpy(), model(x).numpy())
    assert checkpoints.build(checkpoints.describe(Linear(2, 3, dtype="float64"))).weight.dtype == np.float64


EVERY = {
    "Linear": lambda: Linear(4, 4, bias=False), "Maxout": lambda: layers.Maxout(4, 4, 3, bias=False),
    "PReLU": lambda: layers.PReLU(4, 0.1), "Dropout": lambda: layers.Dropout(0.3), "AlphaDropout": lambda: layers.AlphaDropout(0.2),
    "BatchNorm1d": lambda: layers.BatchNorm1d(4, 1e-3, 0.2, affine=False), "Flatten": lambda: layers.Flatten(1),
    "LayerNorm": lambda: layers.LayerNorm((4,), 1e-3, bias=False), "RMSNorm": lambda: layers.RMSNorm(4, elementwise_affine=False),
    "Residual": lambda: layers.Residual(Linear(4, 4), layers.Tanh(), shortcut=Linear(4, 4), scale=0.5),
    "Sequential": lambda: Sequential(Sequential(), layers.Tanh()), "LeakyReLU": lambda: layers.LeakyReLU(0.2),
    "MLP": lambda: MLP(4, [3], 4, activation="prelu", norm="batch", dropout=0.1), "ELU": lambda: layers.ELU(0.5),
    "GroupNorm": lambda: layers.GroupNorm(2, 4, 1e-3, affine=False), "InstanceNorm1d": lambda: layers.InstanceNorm1d(3, affine=True),
    "InstanceNorm2d": lambda: layers.InstanceNorm2d(3, 1e-3),
    "Threshold": lambda: layers.Threshold(0.1, 0.2), "Softplus": lambda: layers.Softplus(2.0),
}


def classes():
    return sorted(name for name, value in vars(layers).items() if name in layers.__all__ and isinstance(value, type)
                  and issubclass(value, Module) and value is not Module
                  and name not in ("Embedding", "GLU", "GEGLU", "SwiGLU", "Normalization"))


@pytest.mark.parametrize("name", classes())
def test_every_layer_is_rebuilt(name):
    model = EVERY.get(name, getattr(layers, name))()
    shape = {"InstanceNorm1d": (6, 3, 4), "InstanceNorm2d": (6, 3, 4, 2)}.get(name, (6, 4))
    x = Tensor(np.random.default_rng(0).normal(size=shape).astype("float32"))
    model(x)                                                                # buffers and random states move on
    twin = checkpoints.build(json.loads(json.dumps(checkpoints.describe(model))))
    twin.load_state_dict(model.state_dict())
    assert repr(twin) == repr(model)
    np.testing.assert_array_equal(twin(x).numpy(), model(x).numpy())        # in training mode, with the same noise


def test_an_embedding_is_rebuilt():
    model = layers.Embedding(5, 3, padding_idx=-1)
    twin = checkpoints.build(checkpoints.describe(model))
    assert twin.weight.shape == (5, 3) and twin.padding_idx == 4


def test_shared_parameters_cannot_be_described():
    model = Sequential(Linear(2, 2), Linear(2, 2))
    model[1].weight = model[0].weight
    with pytest.raises(CheckpointError, match="two places"):
        checkpoints.describe(model)
    twice = Linear(2, 2)
    with pytest.raises(CheckpointError, match="two places"):
        checkpoints.describe(Sequential(twice, twice))


def test_noise_goes_on_where_it_was(tmp_path):
    X, y = blobs()

    def run():
        return Trainer(MLP(2, [8], 3, dropout=0.5, norm="batch", rng=0), seed=0)

    straight = run()
    straight.fit(X, y, epochs=4, batch_size=12, progress=False)
    first = run()
    first.fit(X, y, epochs=1, batch_size=12, progress=False)
    first.save(tmp_path / "t")
    resumed = Trainer.load(tmp_path / "t")
    resumed.fit(X, y, epochs=3, batch_size=12, progress=False)
    assert same(resumed.state_dict(), straight.state_dict())


class Own(Module):
    def __init__(self):
        self.inner = Linear(2, 3, rng=0)

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("description", [
    {"class": "Own", "arguments": {}}, {"class": "Module", "arguments": {}}, {"class": "os.system", "arguments": {}},
    {"class": "np", "arguments": {}}, {"class": ["Linear"], "arguments": {}}, {}, [], None, {"class": "Linear", "arguments": []},
    {"class": "Linear", "arguments": {"in_features": 2, "out_features": 2, "rng": 5}, "modules": []},
    {"class": "Linear", "arguments": {"in_features": 2, "out_features": 2, "weight_init": "x"}, "modules": []},
    {"class": "Linear", "arguments": {"in_features": "2", "out_features": 2}, "modules": []},
    {"class": "Sequential", "arguments": {}, "modules": [{"class": "Tensor"}]}, {"class": "Sequential", "arguments": {}, "modules": 3},
])
def test_descriptions_build_layers_only(description):
    with pytest.raises(CheckpointError):
        checkpoints.build(description)


def test_a_run_is_loaded_and_goes_on_bit_for_bit(tmp_path):
    X, y = blobs()
    straight = a_trainer()
    straight.fit(X, y, epochs=5, batch_size=16, progress=False)
    first = a_trainer()
    first.fit(X, y, epochs=2, batch_size=16, progress=False)
    first.save(tmp_path / "run.safetensors")
    second = Trainer.load(tmp_path / "run.safetensors")
    assert same(second.state_dict(), first.state_dict())
    second.fit(X, y, epochs=3, batch_size=16, progress=False)
    assert same(second.state_dict(), straight.state_dict())


def test_a_checkpoint_in_the_middle_of_an_epoch(tmp_path):
    X, y = blobs()
    straight, path = a_trainer(), tmp_path / "run"

    class Keep(Checkpoint):
        def on_train_batch_end(self, trainer, step):
            if len(trainer.history) == 1 and step == 3:
                trainer.save(path)

        def on_epoch_end(self, trainer, row):
            pass

    straight.fit(X, y, epochs=3, batch_size=8, callbacks=Keep(path, every=1), progress=False)
    resumed = Trainer.load(path)
    assert len(resumed.history) == 1 and resumed._position["step"] == 3
    with pytest.raises(ValueError, match="middle of an epoch.*batch_size was 8 and is 16.*restart_epoch"):
        resumed.fit(X, y, epochs=1, batch_size=16, progress=False)
    resumed.fit(X, y, epochs=2, batch_size=8, progress=False)
    assert same(resumed.state_dict(), straight.state_dict())


def test_early_stopping_goes_on_waiting_after_a_checkpoint(tmp_path):
    X, y = blobs(30)
    data = dict(batch_size=10, validation=blobs(60, 1), progress=False)
    stopper = EarlyStopping(patience=3)
    straight = a_trainer()
    straight.fit(X, y, epochs=200, callbacks=stopper, **data)
    assert 8 < len(straight.history) < 200
    path, epochs = tmp_path / "run", len(straight.history) - 2
    a_trainer().fit(X, y, epochs=epochs, callbacks=[Checkpoint(path), EarlyStopping(patience=3, restore_best_weights=True)], **data)
    resumed, again = Trainer.load(path), EarlyStopping(patience=3)
    resumed.fit(X, y, epochs=200 - epochs, callbacks=again, **data)
    assert again.best_epoch == stopper.best_epoch and same(resumed.state_dict(), straight.state_dict())


SCHEDULES = {
    "step": lambda o: schedules.StepLR(o, 3, 0.5), "cosine": lambda o: schedules.CosineAnnealingLR(o, 20),
    "cycle": lambda o: schedules.OneCycleLR(o, 0.1, total_steps=20),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, mode="max", patience=0),
    "warm": lambda o: schedules.SequentialLR(o, [schedules.LinearLR(o, 0.1, total_iters=3), schedules.ExponentialLR(o, 0.9)], [3]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_on_where_they_were(tmp_path, name):
    X, y = blobs()

    def run():
        model = MLP(2, [8], 3, rng=0)
        optimizer = AdamW([{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[2].parameters(), "lr": 0.01}],
                          lr=0.02, amsgrad=True)
        return Trainer(model, optimizer=optimizer, scheduler=SCHEDULES[name](optimizer), clip_grad_norm=0.5,
                       scheduler_interval="epoch" if name == "plateau" else "step")

    straight, first = run(), run()
    straight.fit(X, y, epochs=4, batch_size=12, progress=False)
    first.fit(X, y, epochs=2, batch_size=12, progress=False)
    first.save(tmp_path / "t")
    resumed = Trainer.load(tmp_path / "t")
    resumed.fit(X, y, epochs=2, batch_size=12, progress=False)
    assert same(resumed.state_dict(), straight.state_dict())
    assert len(set(straight.history["lr"])) > 1


def test_schedules_with_functions_are_passed_when_loading(tmp_path):
    model = MLP(2, [8], 3, rng=0)
    optimizer = Adam(model.parameters())
    Trainer(model, optimizer=optimizer, scheduler=schedules.LambdaLR(optimizer, lambda t: 0.9**t)).save(tmp_path / "t")
    with pytest.raises(CheckpointError, match="pass scheduler="):
        Trainer.load(tmp_path / "t")


def test_own_models_losses_and_metrics_are_passed_when_loading(tmp_path):
    X, y = blobs()

    def loss(out, target):
        return (out * out).mean()

    def spread(out, target):
        return out.max() - out.min()

    trainer = Trainer(Own(), loss=loss, metrics=[spread], seed=3)
    trainer.fit(X, y, epochs=1, progress=False)
    trainer.save(tmp_path / "t")
    for given, words in (({}, "Own is not a layer.*pass model="), ({"model": Own()}, "pass loss="),
                         ({"model": Own(), "loss": loss}, "pass metrics=")):
        with pytest.raises(CheckpointError, match=words):
            Trainer.load(tmp_path / "t", **given)
    back = Trainer.load(tmp_path / "t", model=Own(), loss=loss, metrics=[spread])
    assert same(back.state_dict(), trainer.state_dict())


@pytest.mark.parametrize("other", [lambda: MLP(2, [9], 3, rng=5), lambda: MLP(2, [8, 8], 3, rng=5), lambda: MLP(2, [8], 2, rng=5)])
def test_a_model_that_does_not_fit_is_not_changed(tmp_path, other):
    a_trainer().save(tmp_path / "t")
    model = other()
    before = model.state_dict()
    with pytest.raises(CheckpointError):
        Trainer.load(tmp_path / "t", model=model)
    assert same(dict(model.state_dict()), dict(before))


def test_a_state_of_another_optimizer_changes_nothing(tmp_path):
    a_trainer().save(tmp_path / "t")
    model = MLP(2, [8], 3, rng=5)
    optimizer = SGD(model.parameters(), lr=0.5)
    before = dict(model.state_dict())
    with pytest.raises(CheckpointError, match="nothing was changed"):
        Trainer.load(tmp_path / "t", model=model, optimizer=optimizer)
    assert same(dict(model.state_dict()), before)


def test_a_checkpoint_of_something_else_is_no_run(tmp_path):
    checkpoints.save({"w": np.arange(3)}, tmp_path / "t")
    with pytest.raises(CheckpointError, match="not of a Trainer"):
        Trainer.load(tmp_path / "t")


# A parent that imports the library once, and forks children that train until they are killed.
KILLED = textwrap.dedent("""
    import itertools, os, random, signal, sys
    import numpy as np
    from deepnotes import checkpoints, layers, optimizers
    from deepnotes.training.callbacks import Checkpoint, EarlyStopping
    from deepnotes.training import Trainer

    path, final, seed, capture = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True"
    rng = np.random.default_rng(5)
    X = rng.normal(size=(70, 3)).astype("float32")
    y = (X[:, 0] * X[:, 1] > 0).astype(int)

    def train(path, final):
        if os.path.exists(path):
            trainer = Trainer.load(path, capture=capture)
        else:
            model = layers.MLP(3, [16], 2, rng=0)
            trainer = Trainer(model, optimizer=optimizers.Adam(model.parameters(), lr=0.01), seed=1, capture=capture)
        trainer.fit(X, y, epochs=30 - len(trainer.history), batch_size=8, validation=(X[:20], y[:20]), progress=False,
                    callbacks=[Checkpoint(path, every=2), EarlyStopping(patience=100)])
        checkpoints.save(trainer.state_dict(), final)

    def counted(path, final, last=None):
        "Train, and count the calls that this makes, Python's and C's; at call number `last` the process is killed."
        calls = itertools.count()

        def count(frame, event, argument):
            if event in ("call", "c_call") and next(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            train(path, final)
        finally:
            sys.setprofile(None)
        return next(calls)

    train(path + ".straight", final + ".straight")          # undisturbed, and a warm-up
    whole, kills, rng = counted(path + ".counted", final + ".counted"), 0, random.Random(seed)
    while not os.path.exists(final):
        last = rng.randrange(whole // (3 if capture else 8)) if kills < 25 else None
        child = os.fork()
        if not child:
            status = 1
            try:
                counted(path, final, last)
                status = 0
            finally:
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        assert os.WIFSIGNALED(ended) or ended == 0, "a child failed"
        kills += os.WIFSIGNALED(ended)
    print(kills)
""")


@pytest.mark.parametrize("seed, capture", [(0, True), (1, True), (2, False), (3, False)])
def test_killed_at_any_moment_a_run_ends_where_it_would_have_ended(tmp_path, seed, capture):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run", tmp_path / "end", str(seed), str(capture)],
                          capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3, "killed too seldom to mean anything"
    assert same(checkpoints.load(tmp_path / "end"), checkpoints.load(tmp_path / "end.straight"))
    assert len(checkpoints.load(tmp_path / "end")["history"]["epoch"]) == 30


def test_entries_whose_places_look_alike_stay_apart(tmp_path):
    zero, one, two = np.zeros(2), np.ones(2), np.full(3, 2.0)
    tree = {"a/b": zero, "a": {"b": one, "b'": two}, "1": zero, 1: one, "__metadata__": two, "": [two], "l": [zero, one]}
    checkpoints.save(tree, tmp_path / "t")
    assert same(checkpoints.load(tmp_path / "t"), tree)


def test_a_tree_that_holds_itself_is_refused(tmp_path):
    tree = {}
    tree["me"] = tree
    with pytest.raises(TypeError, match="holds itself"):
        checkpoints.save(tree, tmp_path / "t")


def test_places_that_are_no_files_are_named(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        checkpoints.save({}, tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        checkpoints.save({}, tmp_path / "no" / "t")
    assert list(tmp_path.iterdir()) == []


def test_frozen_parameters_stay_frozen(tmp_path):
    def run(epochs, path=None):
        trainer = Trainer.load(path) if path else make()
        trainer.fit(X, y, epochs=epochs, batch_size=8, progress=False)
        return trainer

    def make():
        model = layers.MLP(2, [4], 2, rng=0)
        model[0].weight.requires_grad = False
        return Trainer(model, seed=0)

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 2)), rng.integers(0, 2, 40)
    first, straight = make().model[0].weight.numpy().copy(), run(6)
    run(3).save(tmp_path / "half")
    resumed = run(3, tmp_path / "half")
    assert [p.requires_grad for p in resumed.model.parameters()] == [False, True, True, True]
    assert np.array_equal(resumed.model[0].weight.numpy(), first)
    assert all(np.array_equal(p.data, q.data) for p, q in zip(resumed.model.parameters(), straight.model.parameters(), strict=True))


class Half:
    def __call__(self, out, y):
        return 0.5


def test_what_is_passed_to_load_is_named_not_the_file(tmp_path):
    trainer = Trainer(layers.MLP(2, [4], 1, rng=0), loss="mse_loss", metrics="r2_score")
    trainer.save(tmp_path / "run")
    for metrics in ("r2_score", ["r2_score"], "mean_absolute_error", Half(), [Half(), "r2_score"], None):
        assert "r2_score" in Trainer.load(tmp_path / "run", metrics=metrics).metrics
    with pytest.raises(TypeError, match="model must be of the class Module, got str"):
        Trainer.load(tmp_path / "run", model="mine")
    with pytest.raises(TypeError, match="optimizer must be of the class Optimizer, got str"):
        Trainer.load(tmp_path / "run", optimizer="Adam")
    for build in (checkpoints.build_optimizer, checkpoints.build_scheduler):
        with pytest.raises(checkpoints.CheckpointError):
            build(None, trainer.model)
