"""The student edition: beside each page a notebook for readers who have only pip, Colab, Binder or JupyterLab.

A chapter's source is written for its author: placeholders for numbers, library code, tests of the book itself, solutions one
cell below their exercise. The student edition is what a reader wants to open. Numbers stand in the text; figures and
tables are kept as outputs; library cells have become an import of what they define; checks stand before the answer
that calls them; solutions are folded at the end. Its first cell installs what is missing, and only that.

Written to ``student/`` in the built site (event ``build-finished``), where the page's buttons find it (``html-page-context``).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

from .execution import executed
from .narrow import KEY
from .settings import read_settings
from .words import Words, citations, references

logger = logging.getLogger(__name__)

FOLDER = "student"
#: the branch that holds the published student edition, with the requirements that Binder installs
BRANCH = "student"
#: what Binder needs, as this repository lists it
BINDER = Path(__file__).resolve().parents[2] / "binder"
#: how ``binder/requirements.txt`` names the library of its own repository
LIBRARY = ".[sklearn]"
INSTALL = """\
#@title Run this first: it installs what is missing here
import importlib.util
import sys

missing = [pip for name, pip in {needs} if importlib.util.find_spec(name) is None]
if missing and sys.platform != "emscripten":
    %pip install -q {{" ".join(f'"{{pip}}"' for pip in missing)}}"""
READY = """\
#@title Preparation
import os
import sys

from matplotlib_inline.backend_inline import set_matplotlib_formats

set_matplotlib_formats("svg")
if sys.platform == "emscripten":
    os.environ["DEEPNOTES_BACKEND"] = "numpy"  # in the browser there is no compiler"""


# -- what the build knows -----------------------------------------------------------------------------------------


def take_glue(cells: list[dict[str, Any]]) -> dict[str, str]:
    """Take the glued values out of the outputs: they will stand in the text. Drawings for phones stay in the book."""
    glued = {}
    for cell in cells:
        kept = []
        for output in cell.get("outputs", []):
            name = (
                output.get("metadata", {})
                .get("scrapbook", {})
                .get("name", "")
                .removeprefix("application/papermill.record/")
            )
            if name:
                glued[name] = "".join(next(iter(output["data"].values())))
            else:
                output.get("metadata", {}).pop(KEY, None)
                kept.append(output)
        if "outputs" in cell:
            cell["outputs"] = kept
    return glued


# -- code ---------------------------------------------------------------------------------------------------------


def bound(code: str) -> tuple[list[str], list[ast.stmt]]:
    """Names that top-level statements bind, loop variables included, and the import statements among them."""
    names, imports = [], []
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        else:
            names += [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names)), imports


def as_import(code: str, module: str) -> str:
    """A library cell as what it brings: its own imports, and its names from the installed library."""
    names, imports = bound(code)
    library = importlib.import_module(module)
    names = [name for name in names if hasattr(library, name) and name != "_all_"]
    lines = [ast.unparse(node) for node in imports]
    if names:
        line = f"from {module} import {', '.join(names)}"
        inner = textwrap.fill(", ".join(names), 72, initial_indent="    ", subsequent_indent="    ")
        lines.append(line if len(line) <= 76 else f"from {module} import (\n{inner},\n)")
    return "\n".join(lines)


def without_glue(code: str) -> str:
    """The numbers are in the text by now: calls of glue at the top level go, others find a function that does nothing."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # IPython's magics
        return code
    lines, gone = code.split("\n"), set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "myst_nb":
            name = node.names[0].asname or node.names[0].name
            lines[node.lineno - 1] = f"{name} = lambda *args, **kwargs: None  # on the page, numbers go into the text"
            gone.update(range(node.lineno, node.end_lineno))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if getattr(node.value.func, "id", "") == "glue":
                gone.update(range(node.lineno - 1, node.end_lineno))
    return "\n".join(line for number, line in enumerate(lines) if number not in gone).strip("\n")


def prepares(code: str) -> bool:
    """Whether a hidden cell brings something that later cells may use, and is no mere test of the book."""
    if re.search(r"\btest_fail\(\s*check_", code):  # an exercise's check, fed wrong answers
        return False
    try:
        names, imports = bound(code)
        loops = [node for node in ast.parse(code).body if isinstance(node, ast.For | ast.With | ast.Try)]
    except SyntaxError:
        return True
    passing = {n.id for node in loops for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(imports) or any(name not in passing for name in names)


# -- cells --------------------------------------------------------------------------------------------------------


def markdown(text: str, **metadata: Any) -> dict[str, Any]:
    """A cell of text."""
    return {"cell_type": "markdown", "metadata": metadata, "source": text}


def code_cell(source: str, outputs: list = (), folded: str = "", **metadata: Any) -> dict[str, Any]:
    """A cell of code; ``folded`` is the title under which JupyterLab and Colab fold it."""
    if folded:
        metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form", "tags": ["hide-input"]}
        source = source if source.startswith("%%") else f"#@title {folded}\n{source}"
    return {
        "cell_type": "code",
        "metadata": metadata,
        "execution_count": None,
        "outputs": list(outputs),
        "source": source,
    }


def first_cells(install: dict[str, str], data: dict[str, str]) -> list[dict[str, Any]]:
    """What is installed, and what is set; two cells, as JupyterLite reads no imports beside a magic.

    Parameters
    ----------
    install : dict of str to str
        Name to import, requirement for pip.
    data : dict of str to str
        Files that the chapter reads, by path, with their text.
    """
    needs = repr(install)
    needs = needs if len(needs) < 60 else "{\n" + "".join(f"    {k!r}: {v!r},\n" for k, v in install.items()) + "}"
    ready = READY
    for path, text in data.items():
        ready += f'\nos.makedirs("{Path(path).parent.as_posix()}", exist_ok=True)'
        ready += f'\nwith open("{path}", "w") as file:\n    file.write({text!r})'
    first = INSTALL.format(needs=f"{needs}.items()")
    return [code_cell(text, cellView="form", tags=["preparation"]) for text in (first, ready)]


class Edition:
    """One chapter's student edition, built cell by cell."""

    def __init__(self, words: Words, page: str):
        self.words, self.page = words, page
        self.cells: list[dict[str, Any]] = []
        self.solutions: list[dict[str, Any]] = []
        self.where = ""  # "exercise" or "solution" while inside one; "exercise-end" and "solution-end" behind it
        self.answer: int | None = None  # where the open exercise's answer cell stands

    def text(self, source: str) -> None:
        """Add a cell of text."""
        for kind, text in self.words.pieces(source):
            self.where = kind or self.where
            text = self.words.plain(text).strip()
            if kind == "exercise":
                self.answer = None
            if kind == "solution":
                head, _, text = text.partition("\n")
                self.solutions.append(markdown(head, **{"jp-MarkdownHeadingCollapsed": True}))
            if text.strip():
                (self.solutions if self.where == "solution" else self.cells).append(markdown(text.strip()))

    def code(self, cell: dict[str, Any]) -> None:
        """Add a cell of code, or what stands for it here."""
        tags, info = cell["metadata"].get("tags", []), cell["metadata"].get("deepnotes")
        source, outputs, folded = without_glue("".join(cell["source"])), cell.get("outputs", []), ""
        if info:
            source, outputs = as_import(source, info["module"]), []
        elif "remove-cell" in tags:
            if not prepares(source):
                return
            folded, outputs = "Preparation", []
        elif {"remove-input", "hide-input"} & set(tags):
            folded = "Code of this figure" if outputs else "Code"
        if not source.strip():
            return
        figure = cell["metadata"].get("mystnb", {}).get("figure", {})
        self._place(source, outputs, folded, bool(info))
        if figure:
            number = self.words.said.get(figure.get("name", ""), "")
            caption = self.words.plain(figure.get("caption", ""))
            (self.solutions if self.where == "solution" else self.cells).append(markdown(f"*{number}* {caption}"))

    def _place(self, source: str, outputs: list, folded: str, library: bool) -> None:
        if self.where == "solution":
            self.solutions.append(code_cell(source, outputs, "Solution"))
        elif self.where == "exercise-end" and folded and self.answer is not None and not library:
            # the check, which the answer calls, stands before it
            self.cells.insert(self.answer, code_cell(source, outputs, "Check"))
            self.answer += 1
        else:
            if self.where in ("exercise", "exercise-end") and self.answer is None:
                self.answer = len(self.cells)
            self.cells.append(code_cell(source, outputs, folded))

    def notebook(self, first: list[dict[str, Any]]) -> dict[str, Any]:
        """The whole, with ids that stay while a cell does."""
        title = next(i for i, cell in enumerate(self.cells) if cell["cell_type"] == "markdown")
        said = f"*A notebook to work in. The chapter's page, with its links and figures to play with: [{self.page}]({self.page})*"
        cells = [*self.cells[: title + 1], markdown(said), *first, *self.cells[title + 1 :]]
        if self.solutions:
            cells += [markdown("## Solutions\n\nFolded: open one when you have tried."), *self.solutions]
        seen: dict[str, int] = {}
        for cell in cells:
            key = hashlib.sha256((cell["cell_type"] + cell["source"]).encode()).hexdigest()[:8]
            seen[key] = seen.get(key, 0) + 1
            cell["id"] = f"{key}-{seen[key]}"
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
        return {"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": metadata}


# -- the site -----------------------------------------------------------------------------------------------------


def chapters(app: Sphinx) -> Iterator[str]:
    """Pages that have a student edition: the numbered chapters and their own pages (07b), in order."""
    pattern = re.compile(re.escape(app.config.deepnotes_nbs) + r"/\d\d[a-z]?_[^/]+$")
    yield from sorted(
        name for name in app.env.found_docs if pattern.match(name) and app.env.doc2path(name).endswith(".ipynb")
    )


def requirements(settings: dict[str, str]) -> dict[str, str]:
    """What a chapter needs beyond what Colab has: the name to import, and what pip is told."""
    return {
        "deepnotes": f"deepnotes[sklearn] @ git+{settings['git_url']}@{settings['branch']}",
        "fastcore": "fastcore<2",
    }


def edition(
    app: Sphinx, docname: str, said: dict, cited: dict, settings: dict[str, str]
) -> tuple[dict, list[str]] | None:
    """The student edition of one chapter, and what of its text could not be resolved."""
    source = executed(app, docname)
    if source is None:
        return None
    page = f"{app.config.html_baseurl}{docname}.html"
    made = Edition(Words(said, cited, take_glue(source["cells"]), page), page)
    data = {}
    for cell in source["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            made.text(text)
        elif cell["cell_type"] == "code" and cell["id"] != "deepnotes-setup":
            made.code(cell)
            for path in re.findall(r"^# reads: (\S+)$", text, re.MULTILINE):
                data |= {
                    p.relative_to(app.srcdir).as_posix(): p.read_text() for p in sorted(Path(app.srcdir).glob(path))
                }
    return made.notebook(first_cells(requirements(settings), data)), made.words.missing


def binder(settings: dict[str, str]) -> dict[str, str]:
    """What Binder installs for the branch of the student edition, by file name: the list in ``binder/``, its dot an address."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(BINDER.glob("*.txt"))}
    lines = [line for line in texts["requirements.txt"].splitlines() if not line.startswith("#")]
    library = requirements(settings)["deepnotes"]
    return texts | {"requirements.txt": "".join(f"{library if line == LIBRARY else line}\n" for line in lines)}


def write_editions(app: Sphinx, exception: Exception | None) -> None:
    """Write the student edition of every chapter into the site (event ``build-finished``)."""
    if exception is not None or app.builder.format != "html":
        return
    settings = read_settings(Path(app.srcdir))
    said, cited = references(app.env), citations(Path(app.srcdir) / "references.bib")
    folder = Path(app.outdir) / FOLDER
    (folder / "binder").mkdir(parents=True, exist_ok=True)
    for name, text in binder(settings).items():
        (folder / "binder" / name).write_text(text, encoding="utf-8")
    for docname in chapters(app):
        made = edition(app, docname, said, cited, settings)
        if made is None:
            continue
        notebook, missing = made
        if missing:
            logger.warning(
                "student edition: %s",
                "; ".join(sorted(set(missing))),
                location=docname,
                type="deepnotes",
                subtype="student",
            )
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        (folder / f"{docname.rpartition('/')[2]}.ipynb").write_text(text, encoding="utf-8")


def point_buttons(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Let the page's buttons open the student edition; pages without one offer none (event ``html-page-context``)."""
    mine = pagename in set(chapters(app))
    name = pagename.rpartition("/")[2]
    branch = app.config.html_theme_options.get("repository_branch", "main")
    groups = []
    for group in context.get("header_buttons", []):
        label = group.get("label")
        if label == "launch-buttons":
            if not mine:
                continue
            for button in group["buttons"]:
                button["url"] = (
                    button["url"].replace(f"/{branch}/", f"/{BRANCH}/").replace(f"/{branch}?", f"/{BRANCH}?")
                )
                button["url"] = button["url"].replace(f"{pagename}.ipynb", f"{name}.ipynb")
        if label == "download-buttons" and mine:
            for button in group["buttons"]:
                if button.get("label") == "download-source-button":
                    button["url"] = context["pathto"](f"{FOLDER}/{name}.ipynb", 1)
                    button["tooltip"] = "Download the notebook"
        groups.append(group)
    context["header_buttons"] = groups


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("build-finished", write_editions, priority=400)  # before the check of every link
    app.connect("html-page-context", point_buttons, priority=900)
