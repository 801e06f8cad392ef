"""What a page's code needs in order to run in the reader's browser.

The page shows some of a chapter's cells. To run one, Python also needs the cells that are not shown (imports above all), the
names of library cells that the reader did not run, and packages that the library imports where nobody who reads the cell can
see it. All this goes into ``live/<page>.json`` in the built site (event ``build-finished``), which the page fetches at the first
click; each shown cell carries its id as a class (``dn-c-3fae0f2f``, event ``doctree-read``), by which the two find each other.

The site that ``make web`` makes puts buttons to these cells (``web/live.js``). Without it the files lie there unused.
"""

from __future__ import annotations

import ast
import json
import re
import symtable
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from .figures import is_code_cell
from .notebooks import convert_notebook
from .student import as_import, bound, prepares

FOLDER = "live"
#: imports that a browser has to fetch first, by the name that is imported; the rest comes with Python or with the library
PACKAGES = {"matplotlib": "matplotlib", "scipy": "scipy", "sklearn": "scikit-learn"}
#: what works only where machine code can be compiled, or where other programs can be started
NATIVE = frozenset({"numba", "llvmlite", "subprocess", "multiprocessing"})
#: data sets that the library takes from scikit-learn, when they are asked for
BUNDLED = re.compile(r"\bload_(?:digits|iris|wine|breast_cancer|diabetes|california_housing)\b")
#: functions of the library that start threads
THREADED = frozenset({"simulate"})
NO_THREADS = "This cell runs ranks on threads, which a browser does not have: run it in a notebook."
NO_COMPILER = "This cell works with compiled code or other programs, which a browser does not have: run it in a notebook."


# -- packages -----------------------------------------------------------------------------------------------------


def imported(tree: ast.AST) -> set[str]:
    """Packages of :data:`PACKAGES` that are imported anywhere in a piece of code."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return {PACKAGES[name] for name in names if name in PACKAGES}


def packages(code: str) -> list[str]:
    """What has to be fetched before this code can run."""
    try:
        found = imported(ast.parse(code))
    except SyntaxError:  # IPython's magics
        found = set()
    return sorted(found | ({"scikit-learn"} if BUNDLED.search(code) else set()))


def names(code: str) -> dict[str, list[str]]:
    """What a cell ``binds``, what it ``uses``, and what of others it ``changes``: ``trainer.fit(…)``, ``x[0] = 1``.

    The page runs before a cell those above it that bind or change what it uses, and what those use. ``*`` is what an
    ``import *`` binds: anything.
    """
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return {"binds": [], "changes": [], "uses": sorted(set(re.findall(r"[A-Za-z_]\w*", code)))}
    binds: set[str] = set()
    changes: set[str] = set()
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            binds |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
            continue
        binds |= set(bound(ast.unparse(node))[0])
        targets = [inner for inner in ast.walk(node) if isinstance(inner, ast.Subscript | ast.Attribute)]
        changes |= {base(t) for t in targets if isinstance(t.ctx, ast.Store)}
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            called = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Expr | ast.Assign)]
            methods = [call.func for call in called if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)]
            changes |= {base(method) for method in methods}
    uses = free(symtable.symtable(code, "cell", "exec"))
    return {"binds": sorted(binds), "changes": sorted((changes & uses) - binds), "uses": sorted(uses)}


def free(table: symtable.SymbolTable) -> set[str]:
    """Names of the chapter that a piece of code reads: no argument and no variable of a function counts."""
    top = table.get_type() == "module"
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return found.union(*(free(child) for child in table.get_children()))


def base(node: ast.expr) -> str:
    """The name that ``a.b[0].c`` begins with; empty if it begins with something else."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def native(code: str) -> bool:
    """Whether a cell works with what no browser has."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except SyntaxError:
        return True
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or "").partition(".")[0]}
            if (node.module or "").startswith("deepnotes.compiler"):
                return True
    return bool(names & NATIVE)


# -- cells --------------------------------------------------------------------------------------------------------


def cell_of(cell: dict[str, Any]) -> dict[str, Any] | None:
    """One cell of code as the page needs it, or None for one that it can do without."""
    code, metadata = "".join(cell["source"]).strip("\n"), cell["metadata"]
    tags, info = metadata.get("tags", []), metadata.get("deepnotes")
    unseen = {"remove-cell", "remove-input"} & set(tags)
    if "skip-execution" in tags or not code or ("remove-cell" in tags and not prepares(code)):
        return None
    made = {"id": cell["id"], "code": code, "kind": "hidden" if unseen else "library" if info else "shown"}
    if info:
        made["brings"] = as_import(code, info["module"])
    known = names(code)
    if not unseen and native(code):
        made["why"] = NO_COMPILER
    elif not unseen and THREADED & set(known["uses"]):
        made["why"] = NO_THREADS
    return made | {"packages": packages(code)} | known


def apart(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """A cell that is not shown with each of its imports by itself, so that only those run, and are fetched, that are needed."""
    try:
        body = ast.parse(cell["code"]).body if cell["kind"] == "hidden" else []
    except SyntaxError:
        body = []
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    if not imports:
        return [cell]
    rest = [ast.unparse(node) for node in body if node not in imports]
    codes = [ast.unparse(node) for node in imports] + ["\n".join(rest)] * bool(rest)
    made = [{"id": f"{cell['id']}-{number}", "code": code, "kind": "hidden"} for number, code in enumerate(codes)]
    return [part | {"packages": packages(part["code"])} | names(part["code"]) for part in made]


def cells_of(notebook: dict[str, Any]) -> tuple[list[dict], dict[str, dict]]:
    """All cells of a chapter in order, and its exercises by label.

    Parameters
    ----------
    notebook : dict
        A chapter after :func:`~deepnotes_ext.notebooks.convert_notebook`.
    """
    cells, exercises, heading, title = [], {}, "", ""
    label, inside = "", ""  # the exercise that was opened last; "exercise" or "solution" while its text goes on
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            for line in text.split("\n"):
                if section := re.match(r"#+ (.+)", line):
                    heading, label, inside = section[1].strip(), "", ""
                elif fence := re.match(r"[`:]{3,}\{(exercise|solution)(?:-start)?\} ?(.*)$", line):
                    inside = fence[1]
                    label = fence[2].strip() if inside == "solution" else ""
                    title = fence[2].strip()
                elif inside == "exercise" and not label and (name := re.match(r":label: *(\S+)", line)):
                    label = name[1]
                    exercises[label] = {"title": title, "answer": "", "checks": [], "solution": [], "call": ""}
                elif re.match(r"[`:]{3,}\{solution-end\}", line):
                    label, inside = "", ""
            continue
        if cell["cell_type"] != "code" or not (made := cell_of(cell)):
            continue
        for part in apart(made):
            part["heading"] = heading
            if label in exercises and part["kind"] != "library":
                _place(part, exercises[label], label, inside)
            cells.append(part)
    modules = {name for cell in cells for name in _modules(cell["code"])}
    for cell in cells:  # calling a function of a module changes nothing that later cells would miss
        cell["changes"] = [name for name in cell["changes"] if name not in modules]
    _calls(cells, exercises)
    return cells, exercises


def _modules(code: str) -> set[str]:
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return set()
    return {(a.asname or a.name).partition(".")[0] for node in body if isinstance(node, ast.Import) for a in node.names}


def _place(cell: dict[str, Any], exercise: dict[str, Any], label: str, inside: str) -> None:
    """Say what a cell is in its exercise: its answer, a check, or part of the solution."""
    names = _functions(cell["code"])
    if inside == "solution":
        part = "solution"
        exercise["solution"].append(cell["id"])
    elif names and all(name.startswith("check_") for name in names):
        part = "check"
        exercise["checks"].append(cell["id"])
    elif cell["kind"] == "shown" and not exercise["answer"]:
        part = "answer"
        exercise["answer"] = cell["id"]
    else:
        return
    cell.update(exercise=label, part=part)


def _functions(code: str) -> dict[str, ast.FunctionDef]:
    try:
        return {node.name: node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    except SyntaxError:
        return {}


# -- the call that judges an answer -------------------------------------------------------------------------------


def _calls(cells: list[dict], exercises: dict[str, dict]) -> None:
    """Find for each exercise how its check is called on the reader's answer."""
    code = {cell["id"]: cell["code"] for cell in cells}
    checks = {name: node for cell in cells for name, node in _functions(cell["code"]).items() if name.startswith("check_")}
    where = {name: cell for cell in cells for name in _functions(cell["code"]) if name.startswith("check_")}
    for exercise in exercises.values():
        answer = code.get(exercise["answer"], "")
        solution = "\n".join(code[name] for name in exercise["solution"])
        exercise["call"] = judge(answer, solution, [code[name] for name in exercise["checks"]], checks)
        name = exercise["call"].partition("(")[0]
        if name in where and where[name]["id"] not in exercise["checks"]:
            exercise["checks"].append(where[name]["id"])


def judge(answer: str, solution: str, near: list[str], checks: dict[str, ast.FunctionDef]) -> str:
    """The call of the check on what the answer cell binds: ``check_adam(my_adam)``; empty if none can be told.

    A comment ``# then: …`` in the answer says it. Else it is the call that the solution makes of a check, with the answer's
    names in place of the solution's own.

    Parameters
    ----------
    answer, solution : str
        The answer cell as it stands, and all code of the solution.
    near : list of str
        Cells of the exercise that define its checks.
    checks : dict
        Every check of the chapter.
    """
    if said := re.search(r"# then: (.+)$", answer, re.MULTILINE):
        return said[1].strip()
    call = next(_calls_of_checks(solution, checks), None)
    own = [name for code in near for name in _functions(code)]
    if call is None:
        name, given = next(iter(own), ""), []
        if not name:
            return ""
    else:
        name, given = call.func.id, call.args
    if not answer:  # nowhere to write yet: the page makes a place, with this call
        arguments = checks[name].args.args if name in checks else []
        return f"{name}({', '.join(argument.arg for argument in arguments)})"
    wanted = len(given) or len(checks[name].args.args) - len(checks[name].args.defaults)
    names = answered(answer)
    names = names if len(names) >= wanted else list(_functions(answer)) or names
    if len(names) > 1 and wanted == 1:
        return f"{name}(({', '.join(names)}))"
    if len(names) < wanted and not all(isinstance(rest, ast.Constant) for rest in given[len(names) :]):
        return ""
    extra = [ast.unparse(rest) for rest in given[len(names) :]]
    return f"{name}({', '.join([*names[:wanted], *extra])})" if names else ""


def _calls_of_checks(code: str, checks: Iterable[str]) -> Iterator[ast.Call]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return
    for node in tree.body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in checks:
                yield inner


def answered(code: str) -> list[str]:
    """The names that an answer cell is there to give: what its last statement binds."""
    names, body = [], ast.parse(code).body
    last = body[-1] if body else None
    if isinstance(last, ast.FunctionDef | ast.ClassDef):
        return [last.name]
    if isinstance(last, ast.Assign):
        names, _ = bound(ast.unparse(last))
    return names


# -- the site -----------------------------------------------------------------------------------------------------


def name_cells(app: Sphinx, doctree: nodes.document) -> None:
    """Give each cell on a page its id as a class (event ``doctree-read``)."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    ids = [cell.get("id", "") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    shift = 1 if app.env.temp_data.get("deepnotes_cells") else 0  # the hidden first cell of execution.py
    for node in doctree.findall(is_code_cell):
        node["classes"].append(f"dn-c-{ids[node['cell_index'] - shift]}")


def page_data(app: Sphinx, docname: str) -> dict[str, Any]:
    """All that one page needs: its cells, its exercises, and the files that its cells read."""
    notebook = json.loads(Path(app.env.doc2path(docname)).read_text(encoding="utf-8"))
    convert_notebook(notebook, lambda message: None, app.config.deepnotes_lib)
    cells, exercises = cells_of(notebook)
    files = {}
    for cell in cells:
        for pattern in re.findall(r"^# reads: (\S+)$", cell["code"], re.MULTILINE):
            paths = sorted(Path(app.srcdir).glob(pattern))
            files |= {path.relative_to(app.srcdir).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    title = app.env.titles[docname].astext()
    return {"page": docname, "title": title, "cells": cells, "exercises": exercises, "files": files}


def write_pages(app: Sphinx, exception: Exception | None) -> None:
    """Write ``live/<page>.json`` for every page with code that runs (event ``build-finished``)."""
    if exception is not None or app.builder.format != "html":
        return
    for docname in sorted(app.env.found_docs):
        if not app.env.doc2path(docname).endswith(".ipynb"):
            continue
        data = page_data(app, docname)
        if any(cell["kind"] != "hidden" for cell in data["cells"]):
            path = Path(app.outdir) / FOLDER / f"{docname}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(data, ensure_ascii=False) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("doctree-read", name_cells, priority=410)
    app.connect("build-finished", write_pages, priority=410)
