"""`make check` and `make export`: what they let through, what they stop, and what they say then."""

import importlib.util
import json
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow("whatever takes `clone` runs the whole gate on a copy of the tree, some of them twice")


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gate(sh, tree, *arguments):
    return sh(sys.executable, tree / "tools" / "check.py", *arguments, cwd=tree)


def code_cell(source):
    return dict(cell_type="code", id="abcd1234", metadata={}, outputs=[], execution_count=None, source=source)


def edit_notebook(path, change):
    book = json.loads(path.read_text(encoding="utf-8"))
    change(book)
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def test_the_tree_passes_its_own_gate(clone, sh):
    status, said = gate(sh, clone)
    assert status == 0, said
    assert said.count("✓") == 10
    assert "04_outputs: " in said and "open code cells" in said  # the measure of each chapter


def test_a_hand_edited_module_is_reported_with_the_command_that_carries_it_back(clone, sh):
    module = clone / "deepnotes" / "autograd" / "tape.py"
    edited = module.read_text(encoding="utf-8") + "\nX = 1\n"
    module.write_text(edited, encoding="utf-8", newline="\n")
    status, said = gate(sh, clone)
    assert status != 0
    assert "make update ARGS=deepnotes/autograd/tape.py" in said and "nbs/library/autograd/tape.ipynb" in said
    status, said = gate(sh, clone, "--write")  # the export must not overwrite the edit
    assert status != 0 and "edited by hand" in said
    assert module.read_text(encoding="utf-8") == edited


def test_a_chapter_that_changed_without_export_is_reported_and_exported(clone, sh):
    def add(book):
        book["cells"].append(code_cell("#| export\ndef born_in_a_test():\n    return 42"))

    edit_notebook(clone / "nbs" / "library" / "autograd" / "tape.ipynb", add)
    status, said = gate(sh, clone)
    assert status != 0 and "make export" in said and "deepnotes/autograd/tape.py" in said
    status, said = gate(sh, clone, "--write")
    assert status == 0, said
    assert "born_in_a_test" in (clone / "deepnotes" / "autograd" / "tape.py").read_text(encoding="utf-8")
    assert not list((clone / "deepnotes").glob("*.part"))


def test_a_broken_chapter_leaves_the_library_as_it_was(clone, sh):
    before = {p.name: p.read_bytes() for p in (clone / "deepnotes").rglob("*.py")}

    def break_syntax(book):
        book["cells"].append(code_cell("#| export\ndef broken(:\n"))

    edit_notebook(clone / "nbs" / "library" / "autograd" / "tape.ipynb", break_syntax)
    status, said = gate(sh, clone, "--write")
    assert status != 0 and "deepnotes/ is as it was" in said
    assert {p.name: p.read_bytes() for p in (clone / "deepnotes").rglob("*.py")} == before


def test_outputs_in_a_notebook_are_reported(clone, sh):
    def run_a_cell(book):
        cell = next(c for c in book["cells"] if c["cell_type"] == "code")
        cell["outputs"] = [dict(output_type="stream", name="stdout", text="hello\n")]

    edit_notebook(clone / "nbs" / "library" / "autograd" / "tape.ipynb", run_a_cell)
    status, said = gate(sh, clone)
    assert status != 0 and "nbs/library/autograd/tape.ipynb holds outputs" in said and "--clear-output" in said


def test_cell_ids_must_be_there_and_differ(clone, sh):
    def same_id(book):
        book["cells"][1]["id"] = book["cells"][0]["id"]

    edit_notebook(clone / "nbs" / "library" / "autograd" / "tape.ipynb", same_id)
    status, said = gate(sh, clone)
    assert status != 0 and "without an id of their own" in said


def test_a_chapter_outside_the_contents_and_an_entry_without_a_chapter_are_reported(clone, sh):
    (clone / "nbs" / "06_layers.ipynb").rename(clone / "nbs" / "06_strata.ipynb")
    status, said = gate(sh, clone)
    assert status != 0
    assert "nbs/06_strata.ipynb is in no place of _toc.yml" in said
    assert "_toc.yml names nbs/06_layers, but there is no such page" in said


@pytest.mark.parametrize("name", ["training/loader", "autograd/tape"])  # the second imports from the package above its own
def test_an_edit_made_in_a_module_is_carried_back(clone, sh, name):
    module = clone / "deepnotes" / f"{name}.py"
    edited = module.read_text(encoding="utf-8") + "    # an edit made by hand\n"
    module.write_text(edited, encoding="utf-8")
    notebook = clone / "nbs" / "library" / f"{name}.ipynb"
    before = notebook.read_text(encoding="utf-8")
    status, said = gate(sh, clone, "--update")
    assert status == 0 and f"nbs/library/{name}.ipynb" in said, said
    assert module.read_text(encoding="utf-8") == edited and not (clone / "deepnotes" / "_modidx.py").exists()
    after = notebook.read_text(encoding="utf-8")
    changed = set(after.splitlines()) ^ set(before.splitlines())
    assert 1 <= len(changed) <= 3 and any("# an edit made by hand" in line for line in changed)


def test_the_stub_follows_the_front_door(clone, sh):
    stub = clone / "deepnotes" / "__init__.pyi"
    text = stub.read_text(encoding="utf-8")
    stub.write_text(text.replace("Trainer as Trainer", "Trainer as Teacher"), encoding="utf-8")
    (clone / "deepnotes" / "py.typed").unlink()
    status, said = gate(sh, clone)
    assert status != 0 and "__init__.pyi is not what the front door's tables say" in said and "py.typed is missing" in said
    status, said = gate(sh, clone, "--write")
    assert status == 0 and "wrote deepnotes/__init__.pyi" in said
    assert stub.read_text(encoding="utf-8") == text and (clone / "deepnotes" / "py.typed").exists()


def test_a_chapter_exports_no_folded_cell(check, tmp_path):
    def written(*sources, tags=()):
        cells = [code_cell(source) | {"metadata": {"tags": list(tags)}} for source in sources]
        (tmp_path / "03_units.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
        return list(check.check_chapters(tmp_path))

    opened = "#| export\ndef f(x):\n\n    return x"
    assert written(opened, "#| code-fold: true\nplot()", "#| export\n#| code-fold: false\ny = 1", "f(1)") == []
    for folded in ("#| export\n#| code-fold: true\nz = 1", "#| code-fold: show\n#| exporti\nz = 1", "#| hide\n#| export\nz = 1"):
        (said,) = written(opened, folded)
        assert "nbs/03_units.ipynb exports a folded cell (abcd1234, `z = 1`)" in said and "library page" in said
    assert len(written(opened, tags=["hide-input"])) == 1
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "units.ipynb").write_text(json.dumps({"cells": [code_cell("#| export\n#| code-fold: true\nz = 1")]}))
    assert written(opened) == []  # a page of the library may fold


def test_the_measure_of_a_chapter(check, tmp_path, capsys):
    cells = [code_cell(text) for text in ("#| export\na = 1\n\nb = 2", "#| export\nc = 3", "#| hide\nd = 4", "print(a)")]
    (tmp_path / "03_units.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    (tmp_path / "04_none.ipynb").write_text(json.dumps({"cells": cells[2:]}), encoding="utf-8")
    check.print_measure(tmp_path)
    assert capsys.readouterr().out == ("  03_units: 3 open code cells, 3 exported lines, at most 2 in a cell\n"
                                       "  04_none: 1 open code cells, exports nothing\n")


def test_lint_is_part_of_the_gate(clone, sh):
    (clone / "tools" / "untidy.py").write_text("import os\n")
    status, said = gate(sh, clone)
    assert status != 0 and "F401" in said and "untidy.py" in said


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("kernels", "from .autograd import Tensor\n", "kernels imports autograd"),
        ("autograd", "def f():\n    from deepnotes import layers\n", "autograd imports layers"),
        ("activations", "import deepnotes.outputs\n", "activations imports outputs"),
        ("optimizers", "from deepnotes.training import Trainer\n", "optimizers imports training"),
        ("layers", "from .autograd import *\n", "`import *`"),
        ("mystery", "x = 1\n", "has no floor"),
        ("autograd/tape", "from ..training.trainer import Trainer\n", "autograd imports training"),
        ("autograd/tape", "from deepnotes.autograd import Tensor\n", "imports its own package"),
        ("kernels", "import importlib\nf = importlib.import_module('deepnotes.layers').Linear\n", "kernels imports layers"),
        ("training/__init__", "from .trainer import *\n", "`import *`"),
    ],
)
def test_imports_that_climb_are_named(check, tmp_path, module, text, complaint):
    (tmp_path / module).parent.mkdir(exist_ok=True)
    (tmp_path / f"{module}.py").write_text(text)
    (said,) = check.check_layering(tmp_path)
    assert complaint in said


@pytest.mark.parametrize(
    "text",
    [
        "import numba\n",
        "import numpy, llvmlite.binding as llvm\n",
        "def f():\n    from numba.core import types\n",
        "import importlib\nllvm = importlib.import_module('llvmlite.binding')\n",
        "import importlib.util\nthere = importlib.util.find_spec('numba')\n",
    ],
)
def test_a_compiler_imported_outside_its_package_is_named(check, tmp_path, text):
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "bridge.py").write_text(text)
    assert list(check.check_wall(tmp_path)) == []
    (tmp_path / "kernels.py").write_text(text)
    (said,) = check.check_wall(tmp_path)
    assert said.startswith("deepnotes/kernels.py:") and "outside deepnotes/compiler/" in said


def test_imports_that_go_down_pass(check, tmp_path):
    text = "from .layers import Module\nfrom deepnotes.autograd import Tensor\nimport numpy\n"
    (tmp_path / "training.py").write_text(text)
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("from .tape import Tensor\nfrom .operations import add\n")
    (tmp_path / "autograd" / "tape.py").write_text("from ..kernels import launch\n")
    (tmp_path / "autograd" / "operations.py").write_text("from .tape import Tensor\nfrom deepnotes.kernels.rows import sum\n")
    assert list(check.check_layering(tmp_path)) == []


def test_imports_for_annotations_alone_may_climb(check, tmp_path):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .training import Trainer\n"
    (tmp_path / "layers.py").write_text(text)
    assert list(check.check_layering(tmp_path)) == []
    (tmp_path / "layers.py").write_text(text + "else:\n    from .training import Trainer\n")
    (said,) = check.check_layering(tmp_path)
    assert "layers imports training" in said


def test_modules_of_a_package_that_import_one_another_are_named(check, tmp_path):
    for name, other in (("record", "judge"), ("judge", "fuse"), ("fuse", "record")):
        (tmp_path / "capture").mkdir(exist_ok=True)
        (tmp_path / "capture" / f"{name}.py").write_text(f"from .{other} import something\n")
    said = list(check.check_layering(tmp_path))
    assert len(said) == 3 and all("import each other" in one for one in said)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f(x):\n    return x\n", "f is public and does not say what x, the result are"),
        ("def f(x: int):\n    return x\n", "does not say what the result is"),
        ("def f(x: int, *more, **named: int) -> int:\n    return x\n", "does not say what more is"),
        ("class f:\n    def g(self) -> int:\n        return 1\n    def h(self, y) -> int:\n        return y\n", "f.h is public"),
        ("class f:\n    def __init__(self, y):\n        self.y = y\n", "f.__init__ is public and does not say what y is"),
        ("def f(x: int, *more: int) -> int:\n    return x\ndef _g(x):\n    return x\n", None),
        ("class f:\n    def _g(self, y):\n        return y\n    def __len__(self):\n        return 0\n", None),
    ],
)
def test_public_functions_without_annotations_are_named_wherever_they_are_defined(check, tmp_path, text, complaint):
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("__all__ = ['f']\nfrom .inner import f\n")
    (tmp_path / "tools" / "inner.py").write_text(f"__all__ = ['f', 'k']\n{text}\ndef k(x):\n    return x\n")  # nobody offers k
    (tmp_path / "_hidden.py").write_text("__all__ = ['h']\ndef h(x):\n    return x\n")
    said = list(check.check_annotations(tmp_path))
    if complaint is None:
        assert said == []
    else:
        assert len(said) == 1 and complaint in said[0] and said[0].startswith("deepnotes/tools/inner.py:")


def test_long_functions_defend_themselves(check, tmp_path):
    def said(*lines, count=38):
        body = "".join(f"    x = {n}\n" for n in range(count))
        (tmp_path / "module.py").write_text("\n".join(lines) + "\n" + body + "    return x\n")
        return list(check.check_sizes(tmp_path))

    quiet = ("def f(x):", '    """Words', "    and more of them.", '    """', "    # a comment", "")
    assert said(*quiet) == []
    (complaint,) = said(*quiet, count=39)
    assert complaint.startswith("deepnotes/module.py:1: f has 41 lines of code, more than 40")
    assert said("def f(x):", "    # Long on purpose: a table", count=50) == []
    assert said("def f(x):", "    # Long on purpose: a table", "    def g(y):", *["        y += 1"] * 50, count=1) == []
    (complaint,) = said("def f(x):", "    # Long on purpose: no more")
    assert "needs no `# Long on purpose:`" in complaint


def test_a_function_of_too_many_ways_is_named(clone, sh):
    text = "def f(x):\n" + "".join(f"    if x == {n}:\n        return {n}\n" for n in range(16))
    (clone / "tools" / "winding.py").write_text(text)
    status, said = gate(sh, clone)
    assert status != 0 and "C901 `f` is too complex (17 > 15)" in said
