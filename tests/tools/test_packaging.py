"""A release: what is in it, what `make dist` refuses, and that the wheel works where nothing but its run-time dependencies exists."""

import configparser
import importlib.metadata as metadata
import importlib.util
import os
import re
import subprocess
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(release, tmp_path_factory):
    """The source distribution and the wheel, as `make dist` makes them; a test should need no network, and this does not."""
    return release.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(built):
    return built[1]


def test_the_wheel_is_pure_and_holds_the_library_alone(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"deepnotes", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    modules = {p.relative_to(ROOT / "deepnotes").as_posix() for p in (ROOT / "deepnotes").rglob("*.py")} - {"_modidx.py"}
    assert {n.removeprefix("deepnotes/") for n in names if n.startswith("deepnotes/") and n.endswith(".py")} == modules


def test_what_is_built_passes_the_checks_of_a_release(release, built):
    sdist, wheel = built
    assert [*release.check_wheel(wheel), *release.check_metadata(wheel), *release.check_sdist(sdist)] == []


def test_the_wheel_brings_its_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"deepnotes/py.typed", "deepnotes/__init__.pyi"} <= names


def altered(wheel, folder, change):
    """The wheel with its files gone through `change(name, text)`, which gives None for a file to leave out."""
    target = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            text = change(name, old.read(name).decode())
            if text is not None:
                new.writestr(name, text)
        extra = change("extra", None)
        if extra is not None:
            new.writestr("deepnotes/_modidx.py", extra)
    return target


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda name, text: None if name == "deepnotes/layers.py" else text, "lacks deepnotes/layers.py"),
        (lambda name, text: "d = {}" if name == "extra" else text, "holds deepnotes/_modidx.py"),
        (lambda name, text: text and text.replace("License-Expression: Apache-2.0", "License-Expression: Mine"), "would refuse"),
        (lambda name, text: text and text.replace("text/markdown", "text/plain"), "as plain text"),
        (lambda name, text: text and text + "[a](b.md)" if name.endswith("METADATA") else text, "link to b.md would lead nowhere"),
    ],
)
def test_a_wheel_that_must_not_be_published_is_refused_in_words(release, wheel, tmp_path, change, complaint):
    bad = altered(wheel, tmp_path, change)
    (said,) = [*release.check_wheel(bad), *release.check_metadata(bad)]
    assert complaint in said


def test_a_tag_is_the_version_and_has_a_heading_in_the_changelog(release, monkeypatch, tmp_path):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nversion = 1.2.3\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "settings", lambda read=release.settings: read(tmp_path))
    assert list(release.check_tag(None)) == list(release.check_tag("")) == []
    (said,) = release.check_tag("v1.2.3")
    assert "no heading `## 1.2.3`" in said
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n")
    assert list(release.check_tag("v1.2.3")) == []
    (said,) = release.check_tag("v1.2.4")
    assert "says version 1.2.3" in said


def test_links_of_the_readme_lead_somewhere_on_the_package_index(release):
    text = "![a page](_static/a.png) [the rules](CONTRIBUTING.md) [numba](https://numba.pydata.org) [below](#contribute)"
    assert release.with_whole_links(text, "https://host/us", "1.0") == (
        "![a page](https://host/us/raw/v1.0/_static/a.png) [the rules](https://host/us/blob/v1.0/CONTRIBUTING.md) "
        "[numba](https://numba.pydata.org) [below](#contribute)")


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
