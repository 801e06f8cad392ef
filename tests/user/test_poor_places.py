"""Places that lack what a terminal on one's own machine has: stderr, a home, a folder to write in, files at all."""

import os
import subprocess
import sys
import textwrap
import zipfile

import pytest
from conftest import ROOT

from deepnotes import kernels

TRAINING = """
    import numpy as np
    import deepnotes as dn
    X = np.random.default_rng(0).normal(size=(48, 2)).astype(np.float32)
    y = (X.sum(1) > 0).astype(np.int64)
    for progress in (None, True, False):
        model = dn.MLP(2, [4], 2, rng=0)
        trainer = dn.Trainer(model, optimizer=dn.optimizers.SGD(model.parameters(), lr=0.1), loss="cross_entropy", seed=0)
        print(len(trainer.fit(X, y, epochs=4, batch_size=16, progress=progress)["loss"]), trainer.evaluate(X, y) is not None)
    import sys
    sys.stderr = None       # Python itself flushes it at the end, whatever it is
"""


def train(folder, before="", path=ROOT, drop=(), **environment):
    env = {k: v for k, v in os.environ.items() if k not in drop}
    env |= {"PYTHONPATH": str(path), "DEEPNOTES_CACHE_DIR": str(folder / "cache")} | environment
    env = {k: v for k, v in env.items() if v is not None}
    program = textwrap.dedent(before) + textwrap.dedent(TRAINING)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["4 True"] * 3
    return done.stderr


@pytest.mark.parametrize("before", [
    "import sys; sys.stderr = None",
    "import sys; sys.stderr.close()",
    "import os; os.close(2)",
    "import sys; sys.stderr = object()",
    "import sys; sys.stderr = type('Log', (), {'write': lambda self, text: len(text)})()",
    "import sys, types; sys.stderr = None; sys.modules['ipykernel'] = types.ModuleType('ipykernel')",
], ids=["None", "closed", "descriptor closed", "an object", "only write", "None in a notebook"])
def test_training_without_a_place_for_messages(before, tmp_path):
    train(tmp_path, before + "\n", DEEPNOTES_BACKEND="numpy")


def test_without_a_home(tmp_path):
    homes = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA")
    assert train(tmp_path, drop=homes, DEEPNOTES_CACHE_DIR=None).count("epoch 4/4") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == []             # no folder named ~


@pytest.mark.skipif(os.name == "nt", reason="folders of Windows have other rights")
def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    train(tmp_path, DEEPNOTES_CACHE_DIR=None, XDG_CACHE_HOME=None, HOME=str(tmp_path / "file"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_the_library_runs_out_of_a_zip_archive(backend, tmp_path):
    if backend == "numba" and not kernels.can_compile():
        pytest.skip("there is no compiler")
    archive = tmp_path / "deepnotes.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((ROOT / "deepnotes").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                file.write(path, path.relative_to(ROOT))
    before = "import deepnotes; assert '.zip' in deepnotes.__file__\n"
    assert "RuntimeWarning" not in train(tmp_path, before, archive, DEEPNOTES_BACKEND=backend)
