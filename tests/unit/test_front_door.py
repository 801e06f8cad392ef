"""`import deepnotes`: what it offers, what it does not load, and the version."""
import ast
import configparser
import importlib
import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT

import deepnotes as dn
from deepnotes import _words

ABSENT = {"estimators"} if importlib.util.find_spec("sklearn") is None else set()       # what needs more than is installed here


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()


def test_import_is_lazy():
    names = ("numpy", "numba", "scipy", "matplotlib", "sklearn", "tqdm", "deepnotes.autograd")
    heavy = f"[m for m in {names} if m in sys.modules]"
    assert python(f"import sys, deepnotes; print(*{heavy})") == []
    loaded = python(f"import sys, deepnotes; deepnotes.Trainer, deepnotes.draw; print(*{heavy})")
    assert "deepnotes.autograd" in loaded and "matplotlib" not in loaded and "sklearn" not in loaded


def test_every_name_is_there_and_is_its_modules():
    for name in set(dir(dn)) - ABSENT:
        value = getattr(dn, name)
        home = dn._NAMES.get(name)
        if home:
            assert value is getattr(getattr(dn, home), name)
    assert {"Tensor", "MLP", "Trainer", "grad_check", "draw", "no_grad", "backend", "show_config"} <= set(dir(dn))


def test_from_import_and_cache():
    from deepnotes import MLP, training
    assert MLP is dn.MLP and training.Trainer is dn.Trainer
    assert "MLP" in vars(dn)                        # found once, then an ordinary attribute


def test_every_module_of_the_library_has_a_name():
    library = ROOT / "deepnotes"
    modules = {path.stem for path in library.glob("*.py")} | {path.parent.name for path in library.glob("*/__init__.py")}
    assert {name for name in modules if not name.startswith("_")} - {"compiler"} <= set(dn._MODULES)
    for name in set(dn._MODULES) - ABSENT:
        assert getattr(dn, name).__name__.startswith("deepnotes.")


def test_estimators_say_what_they_need():
    code = """
import sys
sys.modules["sklearn"] = None
import deepnotes
try:
    deepnotes.estimators
except ImportError as error:
    print("deepnotes[sklearn]" in str(error))"""
    assert python(code) == ["True"]


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'Tensr'; it offers"):
        dn.Tensr  # noqa: B018
    assert not hasattr(dn, "nothing")
    with pytest.raises(ImportError):
        from deepnotes import nothing  # noqa: F401


def test_version_is_the_one_in_settings():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    assert dn.__version__ == settings["DEFAULT"]["version"]


def test_the_stub_names_what_the_front_door_offers():
    tree = ast.parse((ROOT / "deepnotes" / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted([*imported, "__version__"]) == sorted(dir(dn))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            home = importlib.import_module("deepnotes" + (f".{node.module}" if node.module else ""))
            assert [a.name for a in node.names if a.name not in ABSENT and not hasattr(home, a.name)
                    and importlib.util.find_spec(f"{home.__name__}.{a.name}") is None] == []


@pytest.mark.parametrize("name, said", [
    ("ReLU", "did you mean dn.layers.ReLU"), ("Adam", "did you mean dn.optim.Adam"), ("Conv2d", "did you mean dn.convolution.Conv2d"),
    ("cross_entropy", "did you mean dn.outputs.cross_entropy"), ("tensor", "did you mean dn.autograd.tensor"),
    ("nn", "use dn.layers for layers, dn.outputs for losses"), ("DataLoader", "use dn.Loader"),
    ("inference_mode", "use dn.no_grad"), ("from_numpy", "use dn.Tensor"), ("randn", "use dn.Tensor"), ("F", "use dn.activations"),
    ("EarlyStopping", "use dn.callbacks.EarlyStopping"),
])
def test_names_of_other_libraries_lead_to_ours(name, said):
    with pytest.raises(AttributeError, match=f"deepnotes has no attribute '{name}'.*{said}"):
        getattr(dn, name)
    assert dn.optim.Adam is dn.optimizers.Adam


def test_where_the_names_of_others_lead_there_is_something():
    import re
    for words in _words.NAMES.values():
        for path in re.findall(r"dn\.([\w.]+)", words):
            value = dn
            for part in path.split("."):
                value = getattr(value, part)
