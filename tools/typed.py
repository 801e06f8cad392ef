"""What readers write has no complaint from pyright: the README's program, each example of a docstring, and tests/user/typed_programs/.

A part of `make check` (by itself: `python tools/typed.py`). The answer is kept until one of the files changes that decide it.
"""

import ast
import doctest
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "deepnotes"
PASSED = ROOT / ".cache" / "typed"
PROGRAMS = ROOT / "tests" / "user" / "typed_programs"


def bound(tree):
    """Every name that a program binds itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            yield (node.asname or node.name).split(".")[0]


def with_imports(example, module, offered):
    """An example, with what its docstring's module gives it for granted."""
    tree = ast.parse(example)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    needed = sorted((used - set(bound(tree))) & offered)
    return f"from {module} import {', '.join(needed)}\n{example}" if needed else example


def examples():
    """(name, program) of each docstring that has an example."""
    for path in sorted(LIBRARY.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        if ">>> " not in text:
            continue
        tree = ast.parse(text)
        offered = set(bound(ast.Module(tree.body, [])))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (docstring := ast.get_docstring(node)):
                example = "".join(part.source for part in doctest.DocTestParser().get_examples(docstring))
                if example:
                    yield f"{module}.{node.name}", with_imports(example, module, offered)


def programs():
    """The text of everything that is looked at, by a name that says where it stands."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {f"README_{i}": text for i, text in enumerate(re.findall(r"^```python\n(.*?)^```", readme, re.M | re.S))}
    found.update({name.replace(".", "_"): text for name, text in examples()})
    found.update({path.stem: path.read_text(encoding="utf-8") for path in sorted(PROGRAMS.glob("*.py"))})
    return found


def key(texts):
    """All that decides the answer: the library's text, the programs, and which pyright and numpy look at them."""
    h = hashlib.sha256((ROOT / "constraints.txt").read_bytes() + sys.version.encode() + repr(texts).encode())
    for path in sorted([*LIBRARY.rglob("*.py"), *LIBRARY.rglob("*.pyi")]):
        h.update(path.read_bytes())
    return h.hexdigest()


def ask(texts):
    """pyright's exit status and words about some programs, which it sees as a user's own, beside the library."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            (Path(folder) / f"{name}.py").write_text(text, encoding="utf-8")
        quiet = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}  # no look for newer releases
        done = subprocess.run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable, folder], cwd=ROOT, env=quiet,
                              capture_output=True, text=True, encoding="utf-8")
        return done.returncode, (done.stdout + done.stderr).replace(folder + os.sep, "")


def check():
    """The complaints, none about what passed before as it is now."""
    texts = programs()
    want = key(texts)
    if PASSED.exists() and PASSED.read_text() == want:
        return
    status, said = ask(texts)
    if status:
        yield f"pyright about programs that readers write:\n{said}"
    else:
        PASSED.parent.mkdir(exist_ok=True)
        PASSED.write_text(want)


def main():
    complaints = list(check())
    print(("✗ " if complaints else "✓ ") + "programs that readers write have the types that the library says", flush=True)
    if complaints:
        sys.exit("\n".join(complaints) + "\nError: either the program above is wrong, or an annotation of the library is.")


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    main()
