"""A book of a few pages in a temporary directory, built the way `make book` builds the real one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "_ext"))  # so that tests can import deepnotes_ext


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(source, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def notebook(*cells):
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    cells = [{"id": f"cell-{number}", **cell} for number, cell in enumerate(cells)]
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def code_cells(chapter):
    "The text of each code cell of a chapter in nbs/, named without its suffix."
    cells = json.loads((ROOT / "nbs" / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


ARGUMENTS = ["build", ".", "-W", "-n", "--keep-going"]
# jsonschema tries to import a checker of URLs whose grammars take longer to compile than a small book to build
JUPYTER_BOOK = "import sys; sys.modules['rfc3987_syntax'] = None; from jupyter_book.cli.main import main; main()"


class Book:
    """A small book with the real configuration and extension; its chapters and library are the test's own."""

    def __init__(self, root):
        self.root = root
        for name in ("_config.yml", "settings.ini", "references.bib"):
            shutil.copy(ROOT / name, root)
        for name in ("_ext", "_static", "binder"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "nbs" / "api").mkdir(parents=True)
        (root / "nbs" / "api" / "index.md").write_text("# API reference\n\nAll modules.\n")
        (root / "deepnotes").mkdir()
        self.module("__init__", '"""A library."""\n')
        self.pages = []

    def page(self, name, content):
        """Write a page (markdown or a notebook) and put it into the contents; the first one is the landing page."""
        if isinstance(content, str):
            (self.root / "nbs" / f"{name}.md").write_text(content)
        else:
            (self.root / "nbs" / f"{name}.ipynb").write_text(json.dumps(content))
        if name not in self.pages:
            self.pages.append(name)
        chapters = "".join(f"      - file: nbs/{page}\n" for page in self.pages[1:])
        (self.root / "_toc.yml").write_text(
            f"format: jb-book\nroot: nbs/{self.pages[0]}\nparts:\n  - numbered: 2\n    chapters:\n{chapters}"
            "  - caption: Library\n    chapters:\n"
            "      - file: nbs/api/index\n        sections:\n          - glob: nbs/api/*\n"
        )

    def module(self, name, text):
        (self.root / "deepnotes" / f"{name}.py").write_text(text)

    def build(self):
        """Build; the result has returncode and output."""
        log = self.root / "build.log"
        with open(log, "w") as output:
            command = [sys.executable, "-c", JUPYTER_BOOK, *ARGUMENTS]
            returncode = subprocess.run(command, cwd=self.root, stdout=output, stderr=output).returncode
        return SimpleNamespace(returncode=returncode, output=log.read_text(encoding="utf-8", errors="replace"))

    def read_index(self):
        """What the built page's search looks in."""
        text = (self.html / "searchindex.js").read_text(encoding="utf-8")
        return json.loads(text[text.index("(") + 1 : text.rindex(")")])

    @property
    def html(self):
        return self.root / "_build" / "html"

    def read(self, page):
        return (self.html / "nbs" / f"{page}.html").read_text(encoding="utf-8")


def exercises(page):
    "The exercises of a page in nbs/, in order: label, title, and the code of answer, check and solution, as a reader meets them."
    from deepnotes_ext.live import cells_of
    from deepnotes_ext.notebooks import convert_notebook

    notebook = json.loads((ROOT / "nbs" / f"{page}.ipynb").read_text(encoding="utf-8"))
    cells, found = cells_of(convert_notebook(notebook, lambda message: None))
    code = {cell["id"]: cell["code"] for cell in cells}
    return [
        SimpleNamespace(
            label=label, title=one["title"], answer=code.get(one["answer"], ""), call=one["call"],
            checks=[code[id] for id in one["checks"]], solution=[code[id] for id in one["solution"]],
        )
        for label, one in found.items()
    ]


def checked(page):
    "Those exercises of a page that have a check, as parameters of a test that tries them."
    return pytest.mark.parametrize("exercise", [one for one in exercises(page) if one.call], ids=lambda one: one.label)


def try_exercise(exercise, space, error=AssertionError):
    "Be the reader: what the skeleton binds is refused with a sentence, what the solution binds is accepted."
    for check in exercise.checks:
        exec(check, space)
    exec(exercise.answer, space)
    with pytest.raises(error) as refused:
        exec(exercise.call, space)
    assert " " in str(refused.value), "a refusal says why"
    for cell in exercise.solution:
        exec(cell, space)
