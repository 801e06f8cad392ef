"""What a release left on disks is read by every later version, and gone on from: tests/data/golden, written once per release."""
import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from test_checkpoints import same

from deepnotes import checkpoints
from deepnotes.training import Trainer
from deepnotes.training.callbacks import EarlyStopping
from deepnotes.training.loader import Loader

DATA = ROOT / "tests" / "data"
sys.path.insert(0, str(DATA))
from make_golden import data  # noqa: E402

RELEASES = sorted((DATA / "golden").iterdir())
pytestmark = pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)


def expected(folder):
    return json.loads((folder / "expected.json").read_text())


def tree(folder):
    "What is in the checkpoint, from files that need none of this library's readers but the last lines of one."
    with np.load(folder / "arrays.npz") as arrays:
        return checkpoints._unpack(json.loads((folder / "run.json").read_text()), dict(arrays))


def holds(new, old):
    "Whether all that an older version stored is there to the last bit; a later one may store more."
    if isinstance(old, dict):
        return all(key in new and holds(new[key], value) for key, value in old.items())
    return same(new, old)


def test_the_checkpoint_is_read_to_the_last_bit(folder):
    assert same(checkpoints.load(folder / "run.safetensors"), tree(folder))


def test_the_sum_over_its_content_is_the_one_in_the_file(folder):
    "SHA-256 over the text, then each array by name: name, dtype, shape, bytes. Written out here, since files depend on it."
    text = (folder / "run.safetensors").read_bytes()
    length = int.from_bytes(text[:8], "little")
    metadata = json.loads(text[8:8 + length])["__metadata__"]
    total = hashlib.sha256(metadata["tree"].encode())
    with np.load(folder / "arrays.npz") as arrays:
        arrays = dict(arrays)
    for name in sorted(arrays):
        a = arrays[name]
        total.update(f"\n{name}\n{a.dtype.str}\n{a.shape}\n".encode() + a.tobytes())
    assert metadata["sha256"] == total.hexdigest() == checkpoints._digest(metadata["tree"], arrays)
    for name, a in arrays.items():
        for other in (a.reshape(1, *a.shape), a.view(f"V{a.itemsize}") if a.size else a.astype("int8")):
            assert checkpoints._digest(metadata["tree"], {**arrays, name: other}) != metadata["sha256"]


def test_the_run_is_whole_and_stands_where_it_stood(folder):
    trainer = Trainer.load(folder / "run.safetensors", capture=False)
    state = trainer.state_dict()
    stored = tree(folder)
    assert trainer._callback_states[0][0] == "EarlyStopping"
    assert holds(state, {key: value for key, value in stored.items() if key != "callbacks"})
    assert len(trainer.history) == 2 and stored["position"]["step"] == 2


def test_the_run_goes_on(folder):
    "To the same numbers up to the rounding of another machine."
    told, (X, y) = expected(folder), data()
    trainer = Trainer.load(folder / "run.safetensors", capture=False)
    np.testing.assert_allclose(trainer.forward(X), told["outputs"], rtol=1e-4, atol=1e-5)
    trainer.fit(X, y, epochs=2, batch_size=8, callbacks=EarlyStopping("loss", patience=9), progress=False)
    np.testing.assert_allclose(trainer.history["loss"], told["losses"], rtol=1e-3)


def test_the_weights_alone_are_those_of_the_run(folder):
    assert same(dict(sorted(checkpoints.load_weights(folder / "weights.safetensors").items())),
                dict(sorted(tree(folder)["model"]["state"].items())))


def test_the_orders_are_repeated_exactly(folder):
    for told in expected(folder)["orders"]:
        n = told["examples"]
        loader = Loader(np.zeros((n, 1)), np.zeros(n), seed=told["seed"])
        assert loader.order(told["epoch"]).tolist() == told["order"]
        loader.epoch = told["epoch"]
        assert loader.order().tolist() == told["order"]


def test_what_a_release_wrote_is_never_written_again(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    if folder != RELEASES[-1]:
        return
    done = subprocess.run([sys.executable, DATA / "make_golden.py"], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.returncode == 1 and "never written again" in done.stderr
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
