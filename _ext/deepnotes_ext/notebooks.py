r"""nbdev's ``#|`` directives become cell tags, so that a chapter's source needs nothing that only the book reads.

=====================================  ==========================================================================
in the cell                            in the book
=====================================  ==========================================================================
``#| default_exp x``, ``#| hide``      the cell runs and is not shown (tag ``remove-cell``)
``#| include: false``                  the same
``#| echo: false``, ``#| hide_input``  only its output is shown (``remove-input``)
``#| output: false``                   only its source is shown (``remove-output``)
``#| hide_output``                     the same
``#| code-fold: true`` (or ``show``)   its source can be unfolded (``hide-input``)
``#| eval: false``                     it is shown and not run (``skip-execution``)
``#| export``                          it is shown, marked with what it adds to which module (``exported``)
``#| exports``, ``#| exporti``         the same; ``exporti`` marks the module alone
``#| fig-cap: text``                   its figure becomes a numbered figure with this caption
``#| label: fig-xor``                  the figure's name for ``{numref}`fig-xor```
``#| fig-alt: text``                   the figure's text for those who cannot see it
``#| notest``, ``#| slow``             for ``nbdev_test``: nothing changes here
=====================================  ==========================================================================

Directives are read as nbdev reads them: comment lines above the first line of code, ``#|name`` or ``#| name``.
A text in quotes is YAML: ``"$\\\\sin x$"`` and ``'$\\sin x$'`` are one caption, and so is ``$\\sin x$`` without quotes.
A directive that is unknown, or that stands below code where nbdev does not see it, is a warning with the chapter
and the cell.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

import yaml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

EXPORTS = ("export", "exporti", "exports")
#: directives that are known and change nothing on the page
SILENT = frozenset({"notest", "slow", "exec_doc", "test"})
TAGS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "default_exp": lambda value: ("remove-cell",),
    "hide": lambda value: ("remove-cell",),
    "include": lambda value: ("remove-cell",) if _is_false(value) else (),
    "echo": lambda value: ("remove-input",) if _is_false(value) else (),
    "hide_input": lambda value: ("remove-input",),
    "output": lambda value: ("remove-output",) if _is_false(value) else (),
    "hide_output": lambda value: ("remove-output",),
    "code-fold": lambda value: () if _is_false(value) else ("hide-input",),
    "eval": lambda value: ("skip-execution",) if _is_false(value) else (),
    "export": lambda value: ("exported",),
    "exporti": lambda value: ("exported",),
    "exports": lambda value: ("exported",),
}
FIGURE = frozenset({"label", "fig-cap", "fig-alt"})
KNOWN = TAGS.keys() | SILENT | FIGURE

_LINE = re.compile(r"^\s*#\s*\|\s*(?P<name>[\w-]*)\s*(?P<colon>:?)\s*(?P<value>.*?)\s*$")
_MAGIC = re.compile(r"^\s*%%\w+")


def _is_false(value: str) -> bool:
    return value.lower() in ("false", "no", "off")


def split_directives(source: str) -> tuple[list[tuple[str, str]], str, list[str]]:
    """Separate a cell's directives from its code.

    Parameters
    ----------
    source : str
        The cell's source.

    Returns
    -------
    directives : list of (name, value)
        What stands above the first line of code, in order. ``#| eval: false`` gives ``("eval", "false")``.
    code : str
        The source without those lines; cell magics (``%%time``) stay.
    stray : list of str
        Names of known directives that stand below code: nbdev does not read them.
    """
    lines = source.splitlines(keepends=True)
    directives, kept = [], []
    first_code = len(lines)
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match:
            if match["name"]:
                directives.append((match["name"], match["value"]))
        elif not line.strip() or _MAGIC.match(line):
            if line.strip() or kept:
                kept.append(line)
        else:
            first_code = number
            break
    rest = lines[first_code:]
    found = [_LINE.match(line) for line in rest]
    stray = [match["name"] for match in found if match and match["name"] in KNOWN]
    return directives, "".join(kept + rest), stray


def exported_names(code: str) -> list[str]:
    """Public functions and classes that a cell defines at its top level: those have an entry in the API reference."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # IPython syntax; nbdev could not export it either, and says so
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    return list(dict.fromkeys(names))


def first_line(code: str) -> str:
    """The first line of code that is not blank and not a comment: what a cell is called in messages."""
    lines = [line.strip() for line in code.splitlines()]
    return next((line for line in lines if line and not line.startswith("#")), next(filter(None, lines), "(empty)"))


def read_option(value: str) -> str:
    r"""The text of an option. In quotes it is YAML, as in Quarto: a backslash is written ``\\`` in "…" and ``\`` in '…'.

    Raises
    ------
    ValueError
        If a quoted text is not YAML, as ``"$\sin x$"``.
    """
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "\"'":
        return value
    try:
        return str(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise ValueError(f"{value} is no text in quotes: {getattr(error, 'problem', error)}") from None


def convert_notebook(notebook: dict[str, Any], warn: Callable[[str], None], lib: str = "deepnotes") -> dict[str, Any]:
    """Turn the directives of every code cell into tags and metadata; the notebook is changed in place and returned.

    Parameters
    ----------
    notebook : dict
        A notebook of format 4, as read from JSON.
    warn : callable
        Called with one sentence for each directive that is unknown or out of place.
    lib : str
        The package that exported cells go to.
    """
    module = ""
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] != "code":
            continue
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        directives, code, stray = split_directives(source)
        where = f"cell {number} (`{first_line(code)}`)"
        for name in stray:
            warn(f"{where}: `#| {name}` stands below code, where nbdev does not read it; move it to the cell's top")
        metadata = cell.setdefault("metadata", {})
        tags = metadata.setdefault("tags", [])
        for name, value in directives:
            if name not in KNOWN:
                warn(f"{where}: unknown directive `#| {name}`; known are {', '.join(sorted(KNOWN))}")
                continue
            if name == "default_exp":
                module = value
            if name in EXPORTS:
                target = value.split()[0] if value else module
                if not target:
                    warn(f"{where}: `#| {name}` without a module: put `#| default_exp name` in the first code cell")
                    continue
                # the front door (`__init__`) has a page of its own, without entries
                names = [] if name == "exporti" or target.endswith("__init__") else exported_names(code)
                metadata["deepnotes"] = {"module": f"{lib}.{target}".removesuffix(".__init__"), "names": names}
            if name in FIGURE:
                try:
                    _figure(metadata.setdefault("mystnb", {}), name, read_option(value))
                except ValueError as error:
                    warn(f"{where}: `#| {name}`: {error}; in double quotes a backslash is written twice")
            tags.extend(tag for tag in TAGS.get(name, lambda value: ())(value) if tag not in tags)
        if not tags:
            del metadata["tags"]
        if directives:
            cell["source"] = code
    return notebook


def _figure(mystnb: dict[str, Any], name: str, value: str) -> None:
    if name == "fig-alt":
        mystnb.setdefault("image", {})["alt"] = value
    else:
        mystnb.setdefault("figure", {})["caption" if name == "fig-cap" else "name"] = value


def on_source_read(app: Sphinx, docname: str, content: list[str]) -> None:
    """Rewrite a notebook's JSON before it is parsed (event ``source-read``); the file itself is not touched."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(content[0])

    def warn(message: str) -> None:
        logger.warning("%s: %s", app.env.doc2path(docname, base=False), message, location=docname, type="deepnotes")

    convert_notebook(notebook, warn, app.config.deepnotes_lib)
    app.emit("deepnotes-notebook", docname, notebook)
    content[0] = json.dumps(notebook)


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("source-read", on_source_read)
