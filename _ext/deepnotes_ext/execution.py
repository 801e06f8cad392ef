"""What an executed chapter depends on, and what is said when one of its cells raises.

jupyter-cache replays a chapter whose *code cells* it has seen before. That is not enough here: a chapter that imports
``deepnotes.layers`` must run again when that module changes. So each chapter gets a hidden first cell that carries a
*key* in its metadata, which jupyter-cache hashes with everything else. The key covers

- the modules of the library that the chapter imports, and the modules those import, and so on
  (``import deepnotes`` counts as all of them, because its names are loaded lazily);
- files that a line such as ``# reads: benchmarks/results/*.json`` in a code cell names, from the root of the project;
- the versions of Python and of the packages that put numbers on the page;
- ``DEEPNOTES_BACKEND``, the style of the figures and how they are drawn for phones.

Sphinx is told as well, since it would otherwise not even look at a chapter whose own file is unchanged.
The hidden cell also asks for figures as SVG, and for their second, narrow drawing (``narrow.py``), so that chapters need no
set-up lines of their own. In a chapter that compares it counts the pairs, too (``measures.py``).
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from .measures import WATCH
from .notebooks import convert_notebook, first_line

logger = logging.getLogger(__name__)

STYLE = Path(__file__).with_name("figures.mplstyle")
#: packages whose version can change what a chapter prints or draws
PACKAGES = ("numpy", "numba", "scipy", "scikit-learn", "matplotlib", "ipykernel")
NARROW = Path(__file__).with_name("narrow.py")
SETUP = '%config InlineBackend.figure_formats = ["svg"]\n' + NARROW.read_text(encoding="utf-8") + "\nregister(get_ipython())\n"


# -- what a chapter depends on ------------------------------------------------------------------------------------


@cache  # the same modules are asked about for every page
def imports(code: str, package: str, *, inside: tuple[str, ...] | None = None) -> frozenset[str]:
    """Modules of ``package`` that a piece of Python imports, anywhere in it.

    Parameters
    ----------
    code : str
        Python source; lines of IPython magics are left out.
    package : str
        Name of the package, such as ``"deepnotes"``.
    inside : tuple of str, optional
        The folders below the package that the code stands in (`()`: the package itself), so that relative imports count.

    Returns
    -------
    frozenset of str
        Dotted names below the package (``{"autograd"}``); ``"*"`` stands for a use of the package itself.
    """
    lines = ["pass" if line.startswith(("%", "!", "?")) else line for line in code.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:  # more IPython than we understand: depend on everything
        return frozenset({"*"} if package in code else ())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                if inside is None:
                    continue
                base = ".".join([package, *inside[: len(inside) - node.level + 1], base]).rstrip(".")
            # `from deepnotes import layers` may name a module or an object: the caller knows which
            paths = [f"{base}.{alias.name}" for alias in node.names] if base == package else [base]
        else:
            continue
        for path in paths:
            head, _, rest = path.partition(".")
            if head == package:
                found.add(rest or "*")
    return frozenset(found)


def library_modules(library: Path, start: Iterable[str]) -> list[Path]:
    """Files of the library that a chapter with the imports ``start`` depends on, directly or not, sorted.

    Parameters
    ----------
    library : Path
        Directory of the package.
    start : iterable of str
        What :func:`imports` found in the chapter.
    """
    files = {_dotted(path, library): path for path in library.rglob("*.py")}
    todo, seen, chosen = list(start), set(), set()
    if not todo:
        return []
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        # `autograd.tape.Tensor` is a name in a module of a package; whoever imports a package may use all of it
        found = {part for part in _prefixes(name) if part in files}
        if not found:  # "*", or an object that deepnotes/__init__.py hands on from some module
            todo += [module for module in files if module]
        if name in found:
            todo += [module for module in files if module.startswith(name + ".")]
        for part in found - chosen:
            chosen.add(part)
            inside = files[part].relative_to(library).parent.parts
            todo += imports(files[part].read_text(encoding="utf-8"), library.name, inside=inside)
    return sorted([*(files[name] for name in chosen if name), *library.glob("__init__.py")])


def _dotted(path: Path, library: Path) -> str:
    parts = path.relative_to(library).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def versions() -> dict[str, str]:
    """Python's version and those of :data:`PACKAGES` that are installed."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def chapter_key(notebook: dict[str, Any], library: Path) -> str:
    """A hash of everything outside the chapter that its outputs depend on (see the module's docstring)."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    start = set().union(*(imports(source, library.name) for source in sources)) if sources else set()
    digest = hashlib.sha256()
    read = [pattern for source in sources for pattern in re.findall(r"^# reads: (\S+)$", source, re.MULTILINE)]
    data = sorted(path for pattern in read for path in library.parent.glob(pattern))
    for path in [*library_modules(library, start), *data]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    digest.update(json.dumps(versions()).encode())
    digest.update(os.environ.get("DEEPNOTES_BACKEND", "").encode() + b"\0" + STYLE.read_bytes() + NARROW.read_bytes())
    return digest.hexdigest()


# -- events -------------------------------------------------------------------------------------------------------


def prepare_kernels(app: Sphinx) -> None:
    """Give the kernels the library of this tree, and the book's figure style (event ``builder-inited``)."""
    paths = [str(app.srcdir), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if str(app.srcdir) not in sys.path:
        sys.path.insert(0, str(app.srcdir))  # for autodoc, which imports the library in this process
    os.environ["MATPLOTLIBRC"] = str(STYLE)
    os.environ.setdefault("PYTHONHASHSEED", "0")  # sets print in the same order in every build


def add_key(app: Sphinx, docname: str, notebook: dict[str, Any]) -> None:
    """Put the hidden first cell before the chapter (event ``deepnotes-notebook``)."""
    env = app.env
    env.temp_data["deepnotes_cells"] = [
        (number, "".join(cell["source"]))
        for number, cell in enumerate(notebook["cells"], start=1)
        if cell["cell_type"] == "code"
    ]
    key = add_setup_cell(notebook, Path(app.srcdir) / app.config.deepnotes_lib)
    if key is None:  # nothing to run: spare the kernel's start
        notebook["metadata"].setdefault("mystnb", {})["execution_mode"] = "off"
    else:
        _keys(env)[docname] = key


def add_setup_cell(notebook: dict[str, Any], library: Path) -> str | None:
    """Put the hidden first cell before a converted chapter, in place, and return its key; None if no cell is code."""
    if all(cell["cell_type"] != "code" for cell in notebook["cells"]):
        return None
    key = chapter_key(notebook, library)
    compares = any(f"{library.name}.comparing" in "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    cell = {
        "cell_type": "code",
        "id": "deepnotes-setup",
        "metadata": {"tags": ["remove-cell"], "deepnotes_key": key},
        "execution_count": None,
        "outputs": [],
        "source": SETUP + (WATCH if compares else ""),
    }
    notebook["cells"].insert(0, cell)
    return key


def executed(app: Sphinx, docname: str) -> nbformat.NotebookNode | None:
    """The chapter with its outputs as this build shows them, or None for one without code."""
    library = Path(app.srcdir) / app.config.deepnotes_lib
    return kept_run(Path(app.env.doc2path(docname)), app.env.mystnb_config.execution_cache_path, library)[0]


def kept_run(path: Path, cache_path: str | Path, library: Path) -> tuple[nbformat.NotebookNode | None, float | None]:
    """A chapter as the book's cache keeps it, and how many seconds it ran.

    Parameters
    ----------
    path : Path
        The notebook in ``nbs/``.
    cache_path : path
        The folder of jupyter-cache, ``_build/.jupyter_cache``.
    library : Path
        Directory of the package.

    Returns
    -------
    notebook : NotebookNode or None
        Converted, with its outputs; None if the chapter as it stands has not run. One without code is returned as it is.
    seconds : float or None
        Its run time, where it ran.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    convert_notebook(notebook, lambda message: None, library.name)
    if add_setup_cell(notebook, library) is None:
        return nbformat.from_dict(notebook), None
    kept = get_cache(cache_path)
    try:
        record = kept.match_cache_notebook(nbformat.reads(json.dumps(notebook), as_version=4))
    except KeyError:
        return None, None
    done = kept.get_cache_bundle(record.pk).nb
    outputs = {cell["id"]: cell["outputs"] for cell in done.cells if cell.cell_type == "code"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs.get(cell["id"], [])
    return nbformat.from_dict(notebook), record.data.get("execution_seconds")


def outdated_chapters(app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> list[str]:
    """Chapters to read again although their file is the same (event ``env-get-outdated``)."""
    library = Path(app.srcdir) / app.config.deepnotes_lib
    stale = []
    for docname, key in _keys(env).items():
        path = Path(env.doc2path(docname))
        if docname in removed or docname in changed or not path.exists():
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        convert_notebook(notebook, lambda message: None, app.config.deepnotes_lib)
        if chapter_key(notebook, library) != key:
            stale.append(docname)
    return stale


def describe_failure(path: str, cells: list[tuple[int, str]], traceback: str) -> str:
    """Say which cell of which chapter failed and how.

    Parameters
    ----------
    path : str
        The chapter's file.
    cells : list of (int, str)
        Number in the notebook (from 1) and source of each code cell.
    traceback : str
        What was raised: the client's own traceback, then the cell's source between rulers, then the cell's.
    """
    traceback = re.sub(r"\x1b\[[0-9;]*m", "", traceback).strip()
    late = re.search(r"A cell timed out while it was being executed, after (?P<limit>\S+) seconds", traceback)
    quoted = re.search(r"^-{8,}\n(?P<source>.*?)\n-{8,}$\n?(?P<rest>.*)", traceback, re.DOTALL | re.MULTILINE)
    if not quoted:
        return f"{path}\n\n{traceback}\n"
    source = quoted["source"].strip()
    if late:
        message = f"It ran longer than {late['limit']} seconds (execute.timeout in _config.yml)."
        start = _preview(source)
    else:
        message = quoted["rest"].strip()
        start = source
    place = next(((number, code) for number, code in cells if code.strip().startswith(start)), ("?", start))
    return f"{path}, cell {place[0]}: `{first_line(place[1])}`\n\n{message}\n"


def _preview(quoted: str) -> str:
    """How a cell that ran out of time begins; nbclient quotes a long one as two lists of lines."""
    first = quoted.splitlines()[0] if quoted else ""
    try:
        lines = ast.literal_eval(first)
    except (SyntaxError, ValueError):
        return quoted
    return "\n".join(lines) if isinstance(lines, list) else quoted


def forget_warned_build(app: Sphinx, exception: Exception | None) -> None:
    """Let a build with warnings warn again next time (event ``build-finished``).

    Sphinx reads only what changed, so a second build after a warning would say nothing and succeed.
    """
    if exception is None and app._warncount:
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a chapter (event ``env-purge-doc``)."""
    _keys(env).pop(docname, None)


def _keys(env: BuildEnvironment) -> dict[str, str]:
    if not hasattr(env, "deepnotes_keys"):
        env.deepnotes_keys = {}
    return env.deepnotes_keys


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("builder-inited", prepare_kernels)
    app.add_event("deepnotes-notebook")
    app.connect("deepnotes-notebook", add_key)
    app.connect("env-get-outdated", outdated_chapters)
    app.connect("env-purge-doc", purge)
    app.connect("build-finished", forget_warned_build, priority=900)  # after every check that can warn
