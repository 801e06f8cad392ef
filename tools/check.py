"""The gate (`make check`) and the export (`make export`, `--write`; `make update`, `--update`), in the project's environment.

Each check returns its complaints as sentences that say what to do; none means it passed.
"""

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS, LIBRARY = ROOT / "nbs", ROOT / "deepnotes"
LEDGER = ROOT / ".cache" / "exported.json"
TOOLS = Path(sys.executable).parent

# The architecture, bottom to top: a module imports only from floors below its own.
FLOORS = [
    {"comparing", "compiler", "_doors", "_rich", "_safetensors", "_words"},
    {"_checks"},
    {"kernels"},
    {"autograd"},
    {"activations", "outputs", "datasets", "plotting"},
    {"modules", "_modules", "initialization"},
    {"layers", "data_start"},
    {"optimizers", "convolution"},
    {"schedules", "optim"},
    {"capture"},
    {"training"},
    {"estimators", "exchange", "parallel"},
]


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def modules_in(library):
    """The text of each module of a library, by its path within it (`training/trainer.py`)."""
    paths = sorted(p for p in library.rglob("*.py") if p.name != "_modidx.py")
    return {p.relative_to(library).as_posix(): p.read_text(encoding="utf-8") for p in paths}


def export_to(folder):
    """Export the chapters in a copy of the tree, so that a failed export leaves nothing half-written."""
    shutil.copytree(NBS, folder / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(ROOT / "settings.ini", folder)
    done = subprocess.run([TOOLS / "nbdev_export"], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nError: nbdev_export failed; deepnotes/ is as it was.")
    # nbdev's index of symbols is read by nothing here, and every merge would meet in it.
    modules = modules_in(folder / "deepnotes")
    for text in modules.values():  # nbdev writes what stands in the cells, Python or not
        try:
            ast.parse(text)
        except SyntaxError as error:
            line = (error.text or "").strip()
            sys.exit(f"Error: {notebook_of(text)} exports what is not Python ({error.msg}: `{line}`); deepnotes/ is as it was.")
    return modules


def current_library():
    return modules_in(LIBRARY)


def committed(name):
    """The text of deepnotes/name in the last commit, or None."""
    done = subprocess.run(["git", "show", f"HEAD:deepnotes/{name}"], cwd=ROOT, capture_output=True)
    return done.stdout.decode("utf-8").replace("\r\n", "\n") if done.returncode == 0 else None


def hand_edited(name, text, ledger):
    """Whether a module holds something that neither the last export nor the last commit wrote."""
    return sha(text) != ledger.get(name) and text != committed(name)


def shown(tool):
    """A tool of the environment as a reader would type it in the project's folder."""
    path = TOOLS / tool
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def update(name):
    return f"make update ARGS=deepnotes/{name}"


def notebook_of(text):
    found = re.search(r"File to edit: (?:\.\./)+(nbs/[^\s]+\.ipynb)", text)
    return found.group(1) if found else "its notebook"


def carry_back(name, text):
    return (f"deepnotes/{name} was edited by hand. Carry the edit back into {notebook_of(text)} with "
            f"`{update(name)}`, or drop it with `git checkout deepnotes/{name}`; then run `make export`.")


def last_export():
    """The hash of each module as the last export wrote it."""
    return json.loads(LEDGER.read_text()) if LEDGER.exists() else {}


def write_export():
    """`make export`: bring deepnotes/ up to date with the chapters; never overwrite an edit made by hand."""
    ledger = last_export()
    with tempfile.TemporaryDirectory() as folder:
        fresh = export_to(Path(folder))
    now = current_library()
    lost = [carry_back(n, t) for n, t in now.items() if fresh.get(n) != t and hand_edited(n, t, ledger)]
    if lost:
        sys.exit("Error: " + "\nError: ".join(lost))
    LIBRARY.mkdir(exist_ok=True)
    for name, text in fresh.items():
        if now.get(name) != text:
            (LIBRARY / name).parent.mkdir(parents=True, exist_ok=True)
            part = LIBRARY / (name + ".part")
            part.write_text(text, encoding="utf-8", newline="\n")
            part.replace(LIBRARY / name)
            print(f"exported deepnotes/{name}")
    for name in now.keys() - fresh.keys():
        (LIBRARY / name).unlink()
        print(f"removed deepnotes/{name}: no chapter exports it any more")
    if list(check_stub()):
        (LIBRARY / "__init__.pyi").write_text(stub_now(), encoding="utf-8", newline="\n")
        (LIBRARY / "py.typed").touch()
        print("wrote deepnotes/__init__.pyi")
    LEDGER.parent.mkdir(exist_ok=True)
    LEDGER.write_text(json.dumps({n: sha(t) for n, t in fresh.items()}, indent=1))


def stub_of_the_front_door(text):
    """What `deepnotes/__init__.pyi` tells editors and type checkers, from the front door's own tables: it imports its names only
    when they are asked for, which nobody who does not run it can follow."""
    front = {}
    exec(compile(text, "deepnotes/__init__.py", "exec"), front)
    lines = [f'"""{front["__doc__"]}"""', "", "# Written by `make export` from the tables in __init__.py.", ""]
    homes = {}
    for name in front["_MODULES"]:
        package = front["_WITHIN"].get(name, name).rpartition(".")[0]
        homes.setdefault(f".{package}", []).append(name)
    for name, module in front["_NAMES"].items():
        homes.setdefault(f".{module}", []).append(name)
    for home, names in sorted(homes.items()):
        lines += [f"from {home} import {name} as {name}" for name in sorted(names)]
    return "\n".join([*lines, "", "__version__: str", ""])


def stub_now():
    return stub_of_the_front_door((LIBRARY / "__init__.py").read_text(encoding="utf-8"))


def check_stub():
    path = LIBRARY / "__init__.pyi"
    if not path.exists() or path.read_text(encoding="utf-8") != stub_now():
        yield "deepnotes/__init__.pyi is not what the front door's tables say: run `make export` and commit it."
    if not (LIBRARY / "py.typed").exists():
        yield "deepnotes/py.typed is missing: without that file type checkers ignore the library's annotations."


def carry_back_edits(names):
    """`make update`: bring edits made in modules back into the notebooks that export them.

    nbdev wants its index of symbols for that, which the tree does not keep: it is there while nbdev works.
    """
    index = LIBRARY / "_modidx.py"
    with tempfile.TemporaryDirectory() as folder:
        export_to(Path(folder))
        shutil.copy(Path(folder) / "deepnotes" / index.name, index)
    try:
        for name in names or [f"deepnotes/{n}" for n, t in current_library().items() if hand_edited(n, t, last_export())]:
            if name != "deepnotes/_modidx.py":
                subprocess.run([TOOLS / "nbdev_update", "--fname", name], cwd=ROOT, check=True)
                text = (ROOT / name).read_text(encoding="utf-8")
                notebook = notebook_of(text)
                as_it_was_written(ROOT / notebook, name, text)
                print(f"carried {name} back into {notebook}")
    finally:
        index.unlink()
    write_export()


def as_it_was_written(path, name, text):
    """Mend what nbdev does not carry back as it stood in the notebook.

    It exports the directives of others (`#| code-fold`) and puts them below themselves; and of a package's module it takes
    `from .. import kernels` for an import from the package itself.
    """
    package = name.removesuffix(".py").replace("/", ".").rpartition(".")[0]
    above = {f"from {package} import {names}": f"from deepnotes import {names}"
             for names in re.findall(r"(?m)^from \.\. import (.+)$", text)}
    book = json.loads(path.read_text(encoding="utf-8"))
    for cell in book["cells"]:
        lines = cell["source"]
        lines = [line for i, line in enumerate(lines) if not (line.startswith("#|") and line in lines[:i])]
        source = "".join(lines)
        for wrong, right in above.items() if cell["cell_type"] == "code" else ():
            source = re.sub(rf"(?m)^{re.escape(wrong)}$", right, source)
        cell["source"] = source.splitlines(keepends=True)
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def check_export():
    with tempfile.TemporaryDirectory() as folder:
        fresh = export_to(Path(folder))
    now, ledger = current_library(), last_export()
    for name, text in now.items():
        if name not in fresh:
            yield f"no chapter exports deepnotes/{name}: remove it, or write it in a chapter."
        elif fresh[name] != text and hand_edited(name, text, ledger):
            yield carry_back(name, text)
        elif fresh[name] != text:
            yield (f"deepnotes/{name} is not what {notebook_of(text)} exports: run `make export` and commit both. "
                   f"If the module is the newer one, `{update(name)}` carries it back.")
    for name in fresh.keys() - now.keys():
        yield f"deepnotes/{name} is missing: run `make export` and commit it."


def check_clean():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copytree(NBS, folder / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        shutil.copy(ROOT / "settings.ini", folder)
        subprocess.run([TOOLS / "nbdev_clean"], cwd=folder, check=True, capture_output=True)
        for path in sorted(NBS.rglob("*.ipynb")):
            if ".ipynb_checkpoints" in path.parts:
                continue
            name = path.relative_to(ROOT).as_posix()
            book = json.loads(path.read_text(encoding="utf-8"))
            if any(cell.get("outputs") or cell.get("execution_count") for cell in book["cells"]):
                yield (f"{name} holds outputs, which the book makes itself: clear them with "
                       f"`{shown('jupyter')} nbconvert --clear-output --inplace {name}`.")
            elif book != json.loads((folder / path.relative_to(ROOT)).read_text(encoding="utf-8")):
                yield f"{name} is not clean: run `{shown('nbdev_clean')}`."
            ids = [cell.get("id") for cell in book["cells"]]
            if None in ids or len(set(ids)) < len(ids):
                yield f"{name} has cells without an id of their own: open it in Jupyter and save it."


def check_ruff():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "-q", "--output-format", "concise", "."], cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode:
        yield f"`{shown('ruff')} check --fix .` mends what it can of\n{done.stdout}{done.stderr}"


def toc_entries(node, named_files=frozenset()):
    """Every `file:` of a table of contents, and what its `glob:` lines add to them."""
    if isinstance(node, list):
        for item in node:
            yield from toc_entries(item, named_files)
    elif isinstance(node, dict):
        if "root" in node or "file" in node:
            yield node.get("root") or node["file"]
        if "glob" in node:
            pages = {p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.glob(node["glob"] + ".*") if p.name[0] != "."}
            yield from pages - named_files
        for value in node.values():
            if isinstance(value, list):
                yield from toc_entries(value, named_files)


def check_toc():
    import yaml

    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    named = list(toc_entries(yaml.safe_load(toc), set(re.findall(r"file: (\S+)", toc))))
    for entry in named:
        if named.count(entry) > 1:
            yield f"_toc.yml names {entry} more than once."
        if not any((ROOT / entry).with_suffix(end).exists() for end in (".ipynb", ".md", ".rst")):
            yield f"_toc.yml names {entry}, but there is no such page."
    for path in sorted(NBS.rglob("*.ipynb")):
        name = path.relative_to(ROOT).with_suffix("").as_posix()
        if ".ipynb_checkpoints" not in path.parts and name not in named:
            yield f"{name}.ipynb is in no place of _toc.yml: add a `- file: {name}` line where readers should meet it."


def module_of(path, library):
    """The dotted name of a module's file within the package: `training.trainer`; a package's own file is the package."""
    parts = path.relative_to(library).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, library):
    """Dotted names of what a module imports from the package when it runs, wherever in the text the import stands, with the line.

    What is imported for annotations alone (`if TYPE_CHECKING:`) is no import for anyone but type checkers.
    """
    package = path.relative_to(library).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            elif (node.module or "").split(".")[0] == "deepnotes":
                base = node.module.split(".")[1:]
            else:
                continue
            names = [alias.name for alias in node.names]
            yield from ((".".join(filter(None, [*base, name])), node.lineno) for name in names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names if alias.name.startswith("deepnotes."))
            yield from ((name.split(".", 1)[1], node.lineno) for name in names)


def hidden_imports(path, tops):
    """Names of modules that stand in strings handed to an importing function: a way round the floors."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and "import" in ast.unparse(node.func)):
            continue
        for text in (n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)):
            for name in re.findall(r"deepnotes\.(\w+)", text):
                if name in tops:
                    yield name, node.lineno


def check_layering(library=LIBRARY):
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    paths = {module_of(path, library): path for path in sorted(library.rglob("*.py"))}
    siblings = {}  # within a package: module -> those of its own package that it imports
    for module, path in paths.items():
        if not module:  # the front door names everything, lazily
            continue
        top, shown = module.split(".")[0], f"deepnotes/{path.relative_to(library).as_posix()}"
        if top not in floor:
            yield f"{shown} has no floor: give {top} one in FLOORS of tools/check.py."
            continue
        for name, line in [*imports_of(path, library), *hidden_imports(path, floor)]:
            other = name.split(".")[0]
            if name.endswith("*"):
                yield f"{shown}:{line}: `import *` hides where names come from; name them."
            elif other == top and "." in module:  # a package's own file hands on what its modules hold
                inner = ".".join(name.split(".")[:2])
                siblings.setdefault(module, {})[inner if inner in paths else top] = f"{shown}:{line}"
            elif other in floor and other != top and floor[other] >= floor[top]:
                yield (f"{shown}:{line}: {top} imports {other}, which stands on the same floor or "
                       "above; move what both need into a lower module.")
    yield from circles(siblings)


def check_wall(library=LIBRARY):
    """Only deepnotes/compiler/ imports numba or llvmlite: a release of either is then a matter of one package."""
    for path in sorted(library.rglob("*.py")):
        shown = path.relative_to(library)
        if shown.parts[0] == "compiler":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Call) and re.search("import|find_spec", ast.unparse(node.func)):
                names = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            for name in names:
                if name.split(".")[0] in ("numba", "llvmlite"):
                    yield (f"deepnotes/{shown.as_posix()}:{node.lineno}: {name} is imported outside deepnotes/compiler/; "
                           "ask a module of that package for what you need.")


def circles(siblings):
    """Complaints about modules of one package that import one another in a circle."""
    def reached(start):
        seen, todo = set(), list(siblings.get(start, ()))
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += siblings.get(name, ())
        return seen

    for module, imported in siblings.items():
        for name, place in imported.items():
            if "." not in name:
                yield f"{place}: {module} imports its own package {name}; name the module that it needs."
            elif module in reached(name) or name == module:
                yield f"{place}: {module} and {name} import each other; move what both need into a lower module."


#: public functions without annotations, with the reason
UNANNOTATED = {}


def definitions(path):
    """What a module defines by `def` and `class`, and what it takes from which module of the package, by name."""
    defined, taken = {}, {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            for alias in node.names:
                file = folder.joinpath(*(node.module or alias.name).split("."))
                taken[alias.asname or alias.name] = alias.name, next(
                    (p for p in (file.with_suffix(".py"), file / "__init__.py") if p.exists()), None)
    return defined, taken


def offered(library=LIBRARY):
    """Every function and class that a public module or a package's own page offers in `__all__`: where it is defined, and its node."""
    known, seen = {p: definitions(p) for p in sorted(library.rglob("*.py"))}, set()
    for path in known:
        if path.parent != library and path.name != "__init__.py" or path.name[0] == "_" and path.name != "__init__.py":
            continue
        listed = next((ast.literal_eval(n.value) for n in ast.parse(path.read_text(encoding="utf-8")).body
                       if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "__all__"), [])
        for name in listed:
            place = path
            while place is not None and name not in known[place][0]:
                name, place = known[place][1].get(name, (name, None))
            if place is not None and (place, name) not in seen:
                seen.add((place, name))
                yield place, known[place][0][name]


def bare_words(function, method=False):
    """The parameters of a function that have no annotation, and "the result"."""
    a = function.args
    words = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    bound = method and not any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    bare = [word.arg for word in words[bound:] if word.annotation is None]
    return bare + ["the result"] * (function.returns is None and function.name != "__init__")


def check_annotations(library=LIBRARY):
    """What readers can call says what it takes and what it gives; editors and type checkers show no more than that."""
    for path, node in offered(library):
        own = [node] if isinstance(node, ast.FunctionDef) else [
            n for n in node.body if isinstance(n, ast.FunctionDef) and (n.name[0] != "_" or n.name == "__init__")]
        for function in own:
            name = node.name if function is node else f"{node.name}.{function.name}"
            bare = bare_words(function, function is not node)
            if bare and name not in UNANNOTATED:
                yield (f"deepnotes/{path.relative_to(library).as_posix()}:{function.lineno}: {name} is public and does not say what "
                       f"{', '.join(bare)} {'is' if len(bare) == 1 else 'are'}: annotate it.")


#: lines of code above which a function says why it is so long, in a comment that begins so
LONG, DEFENSE = 40, "# Long on purpose:"


def code_lines(function, lines):
    """Lines of a function that hold code: no docstring, no comment, nothing empty."""
    skipped = set()
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            skipped |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    shown = [lines[n - 1].strip() for n in range(function.lineno, function.end_lineno + 1) if n not in skipped]
    return sum(bool(line) and not line.startswith("#") for line in shown)


def check_sizes(library=LIBRARY):
    """A function is short, or a comment in it says why it is better whole. (How many ways lead through it: ruff, C901.)"""
    for path in sorted(library.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines, defended = text.splitlines(), set()
        for node in ast.walk(ast.parse(text)):  # outer functions come before those inside them
            if not isinstance(node, ast.FunctionDef):
                continue
            long = code_lines(node, lines)
            said = [n for n in range(node.lineno, node.end_lineno) if lines[n].strip().startswith(DEFENSE)]
            shown = f"deepnotes/{path.relative_to(library).as_posix()}:{node.lineno}: {node.name} has {long} lines of code"
            if long > LONG and not said and node.lineno not in defended:
                yield f"{shown}, more than {LONG}: split it, or say in it why it is better whole (`{DEFENSE} ...`)."
            elif long <= LONG and said and node.lineno not in defended:
                yield f"{shown}: it is short now, and needs no `{DEFENSE}`."
            if long > LONG and said:
                defended |= set(range(node.lineno, node.end_lineno + 1))


def directives_of(cell):
    """The `#|` lines above a cell's code, as pairs of name and value, and its code without them."""
    lines = "".join(cell["source"]).splitlines()
    above = [re.match(r"\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$", line) for line in lines if re.match(r"\s*#\s*\|", line)]
    code = [line for line in lines if line.strip() and not re.match(r"\s*#\s*\|", line)]
    return [match.groups() for match in above if match], code


def is_folded(cell, directives):
    """Whether a reader sees a cell's code only on asking, or not at all."""
    tags = {"hide-input", "hide-cell", "remove-input", "remove-cell"} & set(cell["metadata"].get("tags", []))
    said = {name: value.lower() for name, value in directives}
    return bool(tags) or "hide" in said or said.get("code-fold", "false") != "false" or said.get("echo") == "false"


def measured_chapters(nbs=NBS):
    """For each chapter: its path, the exported cells that are folded, open code cells, exported lines, the largest exported cell."""
    for path in sorted(nbs.glob("[0-9]*_*.ipynb")):
        folded, shown, exported = [], 0, []
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "code":
                continue
            directives, code = directives_of(cell)
            hidden = is_folded(cell, directives)
            shown += not hidden and bool(code)
            if {"export", "exporti", "exports"} & {name for name, _ in directives}:
                exported.append(len(code))
                if hidden:
                    folded.append((cell["id"], code[0] if code else ""))
        yield path, folded, shown, sum(exported), max(exported, default=0)


def check_chapters(nbs=NBS):
    """A chapter exports what it shows; nobody reads a folded cell, and its code has a page where it is explained."""
    for path, folded, *_ in measured_chapters(nbs):
        for cell, line in folded:
            yield (f"nbs/{path.name} exports a folded cell ({cell}, `{line.strip()}`): show it where the text needs it, or move it "
                   "to a library page, nbs/library/<module>.ipynb, with the reason why it is so.")


def print_measure(nbs=NBS):
    """What a reader meets, chapter by chapter."""
    for path, _, shown, lines, largest in measured_chapters(nbs):
        sizes = f"{lines} exported lines, at most {largest} in a cell" if lines else "exports nothing"
        print(f"  {path.stem}: {shown} open code cells, {sizes}", flush=True)


CHECKS = {
    "the chapters export what deepnotes/ holds": check_export,
    "the stub says what the front door offers": check_stub,
    "notebooks are clean": check_clean,
    "ruff": check_ruff,
    "every chapter is in the table of contents, and the reverse": check_toc,
    "imports go down the layering": check_layering,
    "only deepnotes/compiler/ imports numba and llvmlite": check_wall,
    "what is public is annotated": check_annotations,
    "functions are short, or say why they are not": check_sizes,
    "no chapter exports a folded cell": check_chapters,
}


def main():
    if "--write" in sys.argv:
        return write_export()
    if "--update" in sys.argv:
        return carry_back_edits(sys.argv[sys.argv.index("--update") + 1 :])
    failed = 0
    for title, check in CHECKS.items():
        complaints = list(check())
        print(("✗ " if complaints else "✓ ") + title, flush=True)
        for complaint in complaints:
            failed += 1
            print("  " + complaint.replace("\n", "\n  "), flush=True)
    print_measure()
    if failed:
        sys.exit(f"\nError: {failed} complaint{'s' if failed > 1 else ''}; each line above says what to do.")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main()
