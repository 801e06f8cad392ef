"""Types as readers meet them: what `make check` looks at, that it sees what is wrong, and that the programs it knows run."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

PROGRAMS = sorted((ROOT / "tests" / "user" / "typed_programs").glob("*.py"))


@pytest.fixture(scope="module")
def typed():
    spec = importlib.util.spec_from_file_location("typed", ROOT / "tools" / "typed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_example_gets_what_its_module_gives_for_granted(typed):
    example = "cube = operation(lambda x: x * x)\ny = cube(Tensor(2.0))\n"
    text = typed.with_imports(example, "deepnotes.autograd", {"operation", "Tensor", "x", "unused"})
    assert text == "from deepnotes.autograd import Tensor, operation\n" + example
    assert typed.with_imports("a = 1\n", "deepnotes.autograd", {"a"}) == "a = 1\n"


def test_the_readme_every_example_and_the_programs_are_looked_at(typed):
    names = set(typed.programs())
    assert {"README_0", "deepnotes_capture_captured_capture", *(path.stem for path in PROGRAMS)} <= names
    marks = sum(path.read_text(encoding="utf-8").count(">>> import deepnotes as dn") for path in typed.LIBRARY.rglob("*.py"))
    assert marks <= len(names) - 1 - len(PROGRAMS)
    for text in typed.programs().values():
        compile(text, "program", "exec")


def test_what_is_wrong_is_named_and_what_passed_is_not_asked_again(typed, monkeypatch, tmp_path):
    wrong = """
import deepnotes as dn

model = dn.MLP(4, [8], 3, activation=7)
trainer = dn.Trainer(model, loss="cross_entropie")
trainer.fitt([[0.0]], [0])
"""
    status, said = typed.ask({"wrong": wrong})
    assert status == 1
    assert said.count("- error:") == 3 and "activation" in said and "cross_entropie" in said and "fitt" in said, said
    asked = []
    monkeypatch.setattr(typed, "PASSED", tmp_path / "cache" / "typed")
    monkeypatch.setattr(typed, "ask", lambda texts: asked.append(texts) or (len(asked) % 2, "1 error"))
    (complaint,) = typed.check()
    assert "1 error" in complaint and not typed.PASSED.exists()
    assert list(typed.check()) == [] and list(typed.check()) == []
    assert len(asked) == 2
    tasks = (ROOT / "tools" / "tasks.py").read_text(encoding="utf-8")
    assert 'run(BIN / "python", ROOT / "tools" / "typed.py")' in tasks, "`make check` asks"
    monkeypatch.setattr(typed, "programs", lambda: {"other": "x = 1"})
    assert len(list(typed.check())) == 1


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_the_programs_run(path):
    quick = {**os.environ, "DEEPNOTES_BACKEND": "numpy"}  # nothing is compiled for programs this small
    done = subprocess.run([sys.executable, path], cwd=ROOT, env=quick, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
