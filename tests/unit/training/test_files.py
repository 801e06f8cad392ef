"""Files: whoever saves, wherever to, and whatever lies there, the old or the new file is there; what is read is not believed."""
import errno
import io
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from test_checkpoints import CORPUS, EVERY, a_trainer, blobs, classes, same

from deepnotes import checkpoints, layers, schedules
from deepnotes.autograd import Tensor
from deepnotes.layers import Linear, Module, Parameter
from deepnotes.optimizers import Adam
from deepnotes.training import History, Trainer
from deepnotes.training.checkpoints import CheckpointError

posix = pytest.mark.skipif(os.name != "posix", reason="what is tested is there on POSIX systems only")


def doors():
    "Every way that ends in a file, as a function of its path."
    history = History()
    history.append(loss=0.5)
    trainer = a_trainer()
    return {"save": lambda path: checkpoints.save({"a": 1}, path),
            "save_weights": lambda path: checkpoints.save_weights({"a": np.ones(2)}, path),
            "Trainer.save": trainer.save, "to_csv": history.to_csv}


DOORS = doors()


# ---- written in one stroke

def test_threads_save_to_one_path_and_readers_find_whole_files(tmp_path):
    path, trouble = tmp_path / "t", []
    checkpoints.save({"k": 0, "a": np.zeros(2000)}, path)

    def work(k):
        try:
            for _ in range(12):
                checkpoints.save({"k": k, "a": np.full(2000, float(k))}, path)
                back = checkpoints.load(path)
                assert np.all(back["a"] == back["k"])
        except BaseException as error:
            trouble.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not trouble and [p.name for p in tmp_path.iterdir()] == ["t"]


@posix
@pytest.mark.parametrize("door", DOORS)
def test_only_regular_files_are_replaced(tmp_path, door):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to the pipe").symlink_to(tmp_path / "pipe")
    before = {p.name: p.lstat().st_mode for p in tmp_path.iterdir()}
    places = [tmp_path / name for name in before] + [f"{tmp_path}/new/", f"{tmp_path}/none/t", ""]
    for place in [*places, "/dev/null"]:
        with pytest.raises(OSError):
            DOORS[door](place)
    assert {p.name: p.lstat().st_mode for p in tmp_path.iterdir()} == before and stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe", "."])
@pytest.mark.parametrize("read", [checkpoints.load, checkpoints.load_weights, Trainer.load])
def test_only_regular_files_are_read(tmp_path, read, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a file"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["n" * 243, "n" * 255, "ü" * 127, "[ab]", " t ", "a\nb", "t.part", ".t.1.part", "%s{0}", "..t"])
@pytest.mark.parametrize("door", DOORS)
def test_any_name_that_a_file_can_have(tmp_path, door, name):
    for _ in range(2):                                                      # new, then in place of the old one
        DOORS[door](tmp_path / name)
        assert [p.name for p in tmp_path.iterdir()] == [name]


def test_names_of_every_kind(tmp_path):
    for k, path in enumerate((str(tmp_path / "t"), tmp_path / "t", os.fsencode(tmp_path / "t"))):
        checkpoints.save({"k": k}, path)
        assert checkpoints.load(path) == {"k": k}
    if os.name == "posix" and sys.platform != "darwin":
        odd = os.fsencode(tmp_path) + b"/\xff\xfe"
        checkpoints.save({"k": 5}, odd)
        assert checkpoints.load(odd) == {"k": 5}
    for wrong in (None, 3, ["t"]):
        with pytest.raises(TypeError, match="expected a path or an open file"):
            checkpoints.save({}, wrong)
        with pytest.raises(TypeError, match="expected a path or an open file"):
            checkpoints.load(wrong)


def leftover(name, pid, more=""):
    return f".{name}.{pid}{more}.part"


@posix
def test_leftovers_go_and_never_stand_in_the_way(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    name, here = "[a]*", checkpoints._HOST
    for dead in (leftover(name, gone.pid), leftover(name, gone.pid, f".{here}abc"), leftover(name, 10**12), leftover(name, 10**40)):
        (tmp_path / dead).write_bytes(b"half")
    kept = [leftover(name, os.getppid()), leftover(name, gone.pid, ".ffffffffabc" if here != "f" * 8 else ".0"), leftover("a", gone.pid),
            leftover(name, "x"), leftover(name, "-1")]
    for alive in kept:
        (tmp_path / alive).write_bytes(b"somebody's")
    (tmp_path / leftover(name, gone.pid + 10**9)).mkdir()
    (tmp_path / leftover(name, gone.pid + 10**10)).symlink_to(tmp_path / kept[0])
    checkpoints.save({"a": 1}, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {name, *kept, leftover(name, gone.pid + 10**9), leftover(name, gone.pid + 10**10)}


@posix
def test_a_file_keeps_its_mode_and_is_never_seen_by_more(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "t", [], os.fsync
    checkpoints.save({}, path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(stat.S_IMODE(os.fstat(fd).st_mode)), fsync(fd)))
    for mode in (0o600, 0o640, 0o664):
        path.chmod(mode)
        checkpoints.save({}, path)
        assert stat.S_IMODE(path.stat().st_mode) == seen[-2] == mode


@posix
def test_no_error_once_the_new_file_is_there(tmp_path, monkeypatch):
    path, fsync = tmp_path / "t", os.fsync
    checkpoints.save({"k": 0}, path)

    def files_only(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "this folder cannot be synced")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", files_only)
    checkpoints.save({"k": 1}, path)
    assert checkpoints.load(path) == {"k": 1}


@pytest.mark.parametrize("door", DOORS)
def test_a_full_disk_is_told_with_the_path(tmp_path, monkeypatch, door):
    path = tmp_path / "t"
    path.write_bytes(b"old")

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        DOORS[door](path)
    assert caught.value.errno == errno.ENOSPC and str(path) in str(caught.value)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["t"]


def test_interrupted_at_any_moment_the_old_file_is_there(tmp_path, monkeypatch):
    path = tmp_path / "t"
    checkpoints.save({"k": 0}, path)

    def interrupt(*_):
        raise KeyboardInterrupt

    for name in ("fsync", "replace", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                checkpoints.save({"k": 1}, path)
        assert checkpoints.load(path) == {"k": 0} and [p.name for p in tmp_path.iterdir()] == ["t"]


# ---- open files, bytes, weights alone

class Slow(io.RawIOBase):
    "A raw file that takes ten bytes at a time."

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data[:10])
        return min(10, len(data))


def test_runs_go_through_bytes_and_open_files(tmp_path):
    X, y = blobs()
    trainer, file, slow = a_trainer(), io.BytesIO(), Slow()
    trainer.fit(X, y, epochs=1, progress=False)
    trainer.save(file)
    trainer.save(slow)
    assert same(checkpoints.load(io.BytesIO(slow.data)), checkpoints.load(io.BytesIO(file.getvalue())))
    with open(tmp_path / "t", "wb") as real:
        trainer.save(real)
    with open(tmp_path / "t", "rb") as real:
        for source in (io.BytesIO(file.getvalue()), real, tmp_path / "t"):
            assert same(Trainer.load(source).state_dict(), trainer.state_dict())
        assert not real.closed
    with pytest.raises(CheckpointError, match="whole safetensors"):
        Trainer.load(io.BytesIO(file.getvalue()[:-1]))
    with open(tmp_path / "text", "w+") as text:
        with pytest.raises(TypeError, match="mode 'wb'"):
            trainer.save(text)
        with pytest.raises(CheckpointError, match="mode 'rb'"):
            checkpoints.load(text)


def test_weights_alone_are_plain_safetensors(tmp_path):
    model, path = EVERY["MLP"](), tmp_path / "w"
    checkpoints.save_weights(model, path)
    assert same(dict(sorted(checkpoints.load_weights(path).items())), dict(sorted(model.state_dict().items())))
    assert same(dict(sorted(safetensors.numpy.load_file(path).items())), dict(sorted(model.state_dict().items())))
    strided = {"a": np.arange(12.0).reshape(3, 4).T, "b": np.arange(6)[::-2], "c": np.float32(2), "big": np.arange(3.0).astype(">f8")}
    checkpoints.save_weights(strided, path)
    back = checkpoints.load_weights(path)
    assert all(np.array_equal(back[name], value) for name, value in strided.items())
    back["a"][...] = 0
    checkpoints.save({"a": np.ones(2)}, path)
    with pytest.raises(CheckpointError, match="whole run"):
        checkpoints.load_weights(path)
    checkpoints.save_weights({"a": np.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this library"):
        checkpoints.load(path)
    for wrong in ({1: np.ones(2)}, {"a": "text"}, {"a": np.array([None])}, {"__metadata__": np.ones(1)}):
        with pytest.raises(TypeError):
            checkpoints.save_weights(wrong, path)


@pytest.mark.parametrize("name", CORPUS.files)
def test_weights_are_read_where_the_official_reader_reads_them(name):
    data = CORPUS[name].tobytes()
    try:
        expected = safetensors.numpy.load(data)
    except Exception:
        expected = None
    try:
        back = checkpoints.load_weights(io.BytesIO(data))
    except CheckpointError as error:
        assert expected is None and error.__cause__ is not None
    else:
        assert same(dict(sorted(back.items())), dict(sorted(expected.items())))


def test_a_square_linear_says_that_it_is_turned():
    assert "PyTorch" in Module.load_state_dict.__doc__ and "transpose" in Module.load_state_dict.__doc__


# ---- read without trust

def signed(tree):
    "A file with any tree, and the sum that belongs to it: what a malicious author would write."
    file = io.BytesIO()
    checkpoints.save(tree, file)
    file.seek(0)
    return file


def lied(data, **changes):
    "A file whose header says something else of its first array."
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + n])
    header["w"] |= changes
    text = json.dumps(header).encode()
    return io.BytesIO(len(text).to_bytes(8, "little") + text + data[8 + n:])


@pytest.mark.parametrize("changes", [{"dtype": "I32"}, {"shape": [2, 2]}, {"shape": [4, 1]}, {"dtype": "F64", "shape": [2]},
                                     {"dtype": "U8", "shape": [16]}])
def test_a_header_that_lies_about_dtype_or_shape_is_noticed(changes):
    data = signed({"w": np.arange(4, dtype="float32")}).getvalue()
    assert same(checkpoints.load(lied(data)), {"w": np.arange(4, dtype="float32")})
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoints.load(lied(data, **changes))


def a_state():
    X, y = blobs(30)
    model = layers.MLP(2, [4], 3, norm="batch", dropout=0.1, rng=0)
    optimizer = Adam(model.parameters())
    schedule = schedules.SequentialLR(optimizer, [schedules.LinearLR(optimizer, 0.1, total_iters=2), schedules.StepLR(optimizer, 2)], [2])
    trainer = Trainer(model, optimizer=optimizer, scheduler=schedule, clip_grad_norm=1.0, capture=False)
    trainer.fit(X, y, epochs=2, batch_size=10, progress=False)
    state = trainer.state_dict()
    state["callbacks"] = [["EarlyStopping", {"best": 0.5, "wait": 1, "best_epoch": 1, "weights": None}]]
    return state


def places(tree, path=()):
    "Every place of a tree."
    yield path
    if isinstance(tree, dict | list | tuple):
        for key, item in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(item, (*path, key))


def changed(tree, path, value):
    if not path:
        return value
    if isinstance(tree, dict):
        return {key: changed(item, path[1:], value) if key == path[0] else item for key, item in tree.items()}
    return type(tree)(changed(item, path[1:], value) if key == path[0] else item for key, item in enumerate(tree))


WRONG = [None, "x", -2.5, 10**30, float("inf"), float("nan"), True, [], {}, [[1]], np.zeros(3), np.zeros(()), {"a": {}}, (), -1]


def test_well_signed_but_wrong_files_are_one_kind_of_error():
    "Every place of a run's tree with every kind of wrong value: a CheckpointError with its cause, or a run that can be shown and saved."
    state, loaded = a_state(), 0
    Trainer.load(signed(state))
    for k, path in enumerate(places(state)):
        for value in WRONG[k % 7::7]:                                       # each place a few, each value at many places
            try:
                trainer = Trainer.load(signed(changed(state, path, value)), capture=False)
            except CheckpointError:
                continue
            loaded += 1
            repr(trainer), repr(trainer.history), trainer.history._repr_html_(), trainer.save(io.BytesIO())
    assert loaded, "some places may hold any value of a kind"


@pytest.mark.parametrize("path, value", [
    (("settings", "loss"), "x"), (("settings", "clip_grad_norm"), -2.5), (("model", "state"), np.zeros(3)),
    (("sums", "rows"), float("inf")),
    (("history", "loss"), 5), (("history", "loss"), ["a", "b"]), (("position",), {"step": 3}), (("settings", "seed"), -1),
    (("callbacks",), [3]), (("optimizer", "class"), ["Adam"]), (("scheduler", "state", "schedule"), {})])
def test_wrong_files_name_their_cause(path, value):
    with pytest.raises(CheckpointError):
        Trainer.load(signed(changed(a_state(), path, value)))


def test_a_callbacks_state_without_sense_is_the_same_error():
    state = changed(a_state(), ("callbacks", 0, 1), {"unknown": 1})
    trainer = Trainer.load(signed(state), capture=False)
    from deepnotes.training.callbacks import EarlyStopping
    with pytest.raises(CheckpointError, match="EarlyStopping"):
        trainer.fit(*blobs(), epochs=1, callbacks=EarlyStopping("loss"), progress=False)


def test_other_things_that_come_with_a_file_stay_their_own_errors():
    for given, words in (({"loss": "x"}, "loss must be"), ({"metrics": 3}, "metrics must be")):
        with pytest.raises((TypeError, ValueError), match=words) as caught:
            Trainer.load(signed(a_state()), **given)
        assert not isinstance(caught.value, CheckpointError)


@pytest.mark.parametrize("entry", [
    {"class": "Linear", "arguments": {"in_features": 10**9, "out_features": 4, "bias": True}, "modules": []},
    {"class": "Linear", "arguments": {"in_features": 4, "out_features": 20_000_000}, "modules": []},
    {"class": "Linear", "arguments": {"in_features": 4, "out_features": 4, "dtype": "V1000000000"}, "modules": []},
    {"class": "Embedding", "arguments": {"num_embeddings": 10**12, "embedding_dim": 1}, "modules": []},
    {"class": "BatchNorm1d", "arguments": {"num_features": 10**12, "affine": False}, "modules": []},
    {"class": "BatchNorm1d", "arguments": {"num_features": 10**12, "affine": False, "track_running_stats": False}, "modules": []},
    {"class": "LayerNorm", "arguments": {"normalized_shape": [10**6, 10**6]}, "modules": []},
    {"class": "PReLU", "arguments": {"num_parameters": 10**12}, "modules": []},
    {"class": "Maxout", "arguments": {"in_features": 4, "out_features": 4, "pieces": 10**10}, "modules": []},
    {"class": "Residual", "arguments": {"shortcut": {"module": {"class": "PReLU", "arguments": {"num_parameters": 10**12}, "modules": []}}},
     "modules": []}])
def test_memory_is_not_taken_before_the_arrays_are_compared(monkeypatch, entry):
    "No layer is made at all."
    made = []
    monkeypatch.setattr(checkpoints, "_build", made.append)
    state = changed(a_state(), ("model", "description"), {"class": "Sequential", "arguments": {}, "modules": [entry]})
    with pytest.raises(CheckpointError, match="description says|no dtype"):
        Trainer.load(signed(state))
    assert not made


@pytest.mark.parametrize("name", [*classes(), "Embedding"])
def test_the_shapes_of_every_layer_are_known_before_it_is_made(name):
    for make in (EVERY.get(name), getattr(layers, name)):
        try:
            model = layers.Embedding(5, 3) if name == "Embedding" else make()
        except TypeError:
            continue                                                        # needs arguments
        described = dict(checkpoints._described(checkpoints.describe(model)))
        assert described == {key: array.shape for key, array in model.state_dict().items()}
        assert repr(checkpoints.build(checkpoints.describe(model), model.state_dict())) == repr(model)


# ---- names are one to one

class Twice(Module):
    def __init__(self, kind):
        one, two = (Parameter(np.full(2, float(k), "float32")) for k in (1, 2))
        if kind == "parameters":
            self.d = {0: one, "0": two}
        elif kind == "modules":
            self.d = {1: Linear(2, 2), "1": Linear(2, 2)}
        elif kind == "noise":
            self.d = {1: layers.Dropout(0.5), "1": layers.Dropout(0.5)}
        elif kind == "dots":
            self.a = {"b": one}
            setattr(self, "a.b", two)
        elif kind == "nested":
            self.a = {"b.c": one, "b": {"c": two}}
        elif kind == "buffer":
            self.a = [layers.BatchNorm1d(2)]
            setattr(self, "a.0.running_mean", one)
        elif kind == "none":
            self.d = {0: one, "1": two, "again": one}

    def forward(self, x):
        return x * 1.0


@pytest.mark.parametrize("kind", ["parameters", "modules", "noise", "dots", "nested", "buffer"])
def test_two_things_of_one_name_are_refused(kind):
    model = Twice(kind)
    with pytest.raises(ValueError, match="two things of this model have the name"):
        model.state_dict()
    with pytest.raises(ValueError, match="have the name"):
        model.load_state_dict({})
    with pytest.raises(ValueError):
        Trainer(model, loss="mse_loss").save(io.BytesIO())


def test_one_thing_of_two_names_has_its_first():
    model = Twice("none")
    assert list(model.state_dict()) == ["d.0", "d.1"] and model(Tensor(np.ones(2))).shape == (2,)


def test_a_path_that_holds_a_folder_is_told(tmp_path):
    with pytest.raises(IsADirectoryError, match="to_csv.*is a folder"):
        History().to_csv(tmp_path)
    assert Path(tmp_path).is_dir()
