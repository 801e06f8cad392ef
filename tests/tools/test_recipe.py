"""The conda recipe says what pyproject.toml and settings.ini say."""
import configparser
import importlib
import re
import tomllib

import pytest
from conftest import ROOT

yaml = pytest.importorskip("yaml")

RECIPE = yaml.safe_load((ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
NAMES = {"matplotlib": "matplotlib-base"}        # conda-forge's package without a window toolkit


def requirements(lines):
    "Bounds by name, each bound by itself."
    found = {}
    for line in lines:
        name, bounds = re.fullmatch(r"([\w.-]+)\s*(.*)", line).groups()
        found[name] = sorted(filter(None, (bound.strip() for bound in bounds.split(","))))
    return found


def test_what_it_needs_to_run_is_what_pip_installs():
    wanted = {NAMES.get(name, name): bounds for name, bounds in requirements(PROJECT["dependencies"]).items()}
    wanted["python"] = [PROJECT["requires-python"]]
    assert requirements(RECIPE["requirements"]["run"]) == wanted


def test_it_is_built_as_pip_builds_it():
    host = requirements(RECIPE["requirements"]["host"])
    assert host.pop("pip") == [] and host.pop("python") == [PROJECT["requires-python"]]
    assert host == requirements(PYPROJECT["build-system"]["requires"])
    assert (ROOT / "recipe" / RECIPE["source"]["path"]).resolve() == ROOT.resolve() and RECIPE["build"]["noarch"] == "python"


def test_name_version_license_and_addresses_are_the_projects():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini", encoding="utf-8")
    about = RECIPE["about"]
    assert RECIPE["package"] == {"name": PROJECT["name"], "version": settings["DEFAULT"]["version"]}
    assert about["license"] == PROJECT["license"] and [about["license_file"]] == PROJECT["license-files"]
    assert (about["home"], about["dev_url"]) == (PROJECT["urls"]["Book"], PROJECT["urls"]["Source"])
    assert about["summary"] == PROJECT["description"]


def test_what_it_tries_after_the_build_is_there():
    for name in RECIPE["test"]["imports"]:
        importlib.import_module(name)
    modules = [command.split()[-1] for command in RECIPE["test"]["commands"] if command.startswith("python -m")]
    assert modules == ["deepnotes.compiler"] and (ROOT / "deepnotes" / "compiler" / "__main__.py").is_file()
