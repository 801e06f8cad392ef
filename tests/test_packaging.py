"""The wheel: what is in it, and that it works where nothing but its run-time dependencies exists."""

import configparser
import importlib.metadata as metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools packs what an earlier build left there
    # --no-isolation: the environment has setuptools, and a test should need no network
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_is_pure_and_holds_the_library_alone(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"deepnotes", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    modules = {p.relative_to(ROOT / "deepnotes").as_posix() for p in (ROOT / "deepnotes").rglob("*.py")}
    assert {n.removeprefix("deepnotes/") for n in names if n.startswith("deepnotes/") and n.endswith(".py")} == modules


def test_the_version_has_one_source(wheel):
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "settings.ini")
    version = settings["DEFAULT"]["version"]
    assert wheel.name.split("-")[1] == version
    import deepnotes

    assert deepnotes.__version__ == version
    stated = [p.name for p in (ROOT / "pyproject.toml", ROOT / "_config.yml", ROOT / "README.md")
              if re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", p.read_text(encoding="utf-8"))]
    assert stated == [], f"{stated} repeat the version that settings.ini holds"


def closure(name, seen):
    """All distributions that `name` needs at run time, extras left out."""
    from packaging.requirements import Requirement

    for line in metadata.requires(name) or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.name.lower() not in seen:
            seen.add(requirement.name.lower())
            closure(requirement.name, seen)
    return seen


def empty_environment(folder, needs):
    """A new virtual environment that holds the distributions in `needs`, linked so that nothing is downloaded."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    variables = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "nt_venv" if os.name == "nt" else "posix_venv", vars=variables))
    for name in needs:
        distribution = metadata.distribution(name)
        for top in {f.parts[0] for f in distribution.files if f.parts[0] != ".."}:
            source, target = Path(distribution.locate_file(top)), site / top
            if top != "__pycache__" and source.exists() and not target.exists():
                target.symlink_to(source, target_is_directory=source.is_dir())
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), site


TRAIN = """
import sys
import deepnotes as dn
assert not {"matplotlib", "sklearn"} & set(sys.modules), "import deepnotes is too eager"
import numpy as np
rng = np.random.default_rng(0)
X = rng.standard_normal((200, 2)).astype("float32")
y = (X[:, 0] * X[:, 1] > 0).astype("int64")
model = dn.MLP(2, [16], 2, activation="relu", rng=0)
opt = dn.optimizers.Adam(model.parameters(), lr=1e-2)
trainer = dn.Trainer(model, loss="cross_entropy", optimizer=opt, seed=0)
history = trainer.fit(X, y, epochs=30, batch_size=20, progress=False)
assert not {"matplotlib", "sklearn"} & set(sys.modules), "training needs neither figures nor scikit-learn"
print(dn.__file__, history["loss"][0], history["loss"][-1])
assert history["loss"][-1] < 0.5 * history["loss"][0]
"""


def test_the_wheel_trains_in_an_empty_environment(wheel, tmp_path):
    needs = closure("deepnotes", set())
    assert {"numpy", "numba", "scipy"} <= needs and not {"scikit-learn", "nbdev", "torch"} & needs
    python, site = empty_environment(tmp_path / "empty", needs)
    zipfile.ZipFile(wheel).extractall(site)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([python, "-c", TRAIN], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(site) in done.stdout
