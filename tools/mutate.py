"""Do the tests notice? Change one operator or constant of the library at a time, and see whether a test fails.

    python tools/mutate.py training/trainer training/loader --sample 20 --seed 1

For each module named (or all of `WATCHED`) a number of places is drawn; each is changed in a copy of the tree, and the tests
that belong to the module run there until the first failure. A change that no test notices is printed with its line. Those that
cannot be noticed, because both programs do the same, stand in `tests/equivalent_mutants.json` with the reason, and do not count.
"""

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "equivalent_mutants.json"
#: which tests answer for which module; a module is a path below deepnotes/ without its ending
WATCHED = {
    "training/trainer": ["test_training.py", "test_training_loop.py", "test_data_doors.py", "test_life.py"],
    "capture/judge": ["test_capture.py", "differential"],
    "capture/reach": ["test_capture.py", "test_capture_python.py"],
    "capture/record": ["test_capture.py", "test_capture_numbers.py", "differential"],
    "capture/captured": ["test_capture.py", "test_capture_numbers.py"],
    "capture/fuse": ["test_capture.py", "differential"],
    "capture/numbers": ["test_capture_numbers.py"],
    "training/checkpoints": ["test_files.py", "test_checkpoints.py", "test_golden.py", "test_copies.py"],
    "training/loader": ["test_training_loop.py", "test_golden.py", "test_data_doors.py"],
    "training/callbacks": ["test_training.py", "test_training_loop.py", "test_data_doors.py"],
    "schedules": ["test_schedules.py"],
    "autograd/tape": ["test_autograd.py", "test_autograd_ops.py", "test_backprop_chapter.py"],
    "autograd/operations": ["test_autograd_ops.py", "test_autograd.py", "test_numbers.py"],
    "outputs": ["test_outputs.py", "test_outputs_chapter.py"],
    "kernels/sums": ["test_kernels.py", "test_kernels_chapter.py", "test_sums.py"],
    "kernels/gather": ["test_kernels.py", "test_sums.py"],
    "kernels/losses": ["test_outputs.py", "test_outputs_chapter.py"],
}
COMPARE = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
           "in": "not in", "not in": "in"}
BINARY = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*"}
SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.IsNot: "is not",
           ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//",
           ast.Mod: "%", ast.Pow: "**"}


def changes(text):
    """Every change of one place: (line, what it was, what it becomes, the whole new text)."""
    tree, starts = ast.parse(text), [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = text.encode()

    def at(line, column):
        return starts[line - 1] + column

    def put(begin, end, new, line):
        old = data[begin:end].decode()
        return line, old.strip(), new.strip(), (data[:begin] + new.encode() + data[end:]).decode()

    def between(left, right, symbol, new, line):
        begin, end = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)
        gap = data[begin:end].decode()
        return [put(begin, end, gap.replace(symbol, new, 1), line)] if gap.count(symbol) == 1 else []

    messages = {id(n) for node in ast.walk(tree) if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert) for n in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in messages:  # what an error says is not what a program computes
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            symbol = SYMBOLS[type(node.ops[0])]
            yield from between(node.left, node.comparators[0], symbol, COMPARE[symbol], node.lineno)
        elif isinstance(node, ast.BinOp) and type(node.op) in SYMBOLS:
            symbol = SYMBOLS[type(node.op)]
            yield from between(node.left, node.right, symbol, BINARY[symbol], node.lineno)
        elif isinstance(node, ast.BoolOp):
            symbol = "and" if isinstance(node.op, ast.And) else "or"
            yield from between(node.values[0], node.values[1], symbol, "or" if symbol == "and" else "and", node.lineno)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield put(at(node.lineno, node.col_offset), at(node.operand.lineno, node.operand.col_offset), "", node.lineno)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            new = str(not node.value) if isinstance(node.value, bool) else repr(node.value + 1)
            yield put(at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset), new, node.lineno)


def is_python(text):
    """Whether a change left something that can run at all (`f"{x!r}"` and its like cannot be cut anywhere)."""
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def place_for_work(folder):
    """A copy of what git knows of the tree."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def survives(folder, tests, limit):
    """Whether the tests pass there, and how long they took; a program that hangs is noticed too."""
    env = {**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests)]
    begin = time.monotonic()
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return False, limit
    return done.returncode == 0, time.monotonic() - begin


def watch(module, sample, draw):
    """Try a sample of one module's changes; how many there were, and those that no test noticed."""
    known = {(k["module"], k["line"], k["becomes"]) for k in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place_for_work(folder)
        path = folder / "deepnotes" / f"{module}.py"
        text = path.read_text(encoding="utf-8")
        passed, seconds = survives(folder, WATCHED[module], 3600)
        if not passed:
            sys.exit(f"Error: the tests of {module} fail before anything is changed.")
        tried, left = 0, []
        found = [change for change in changes(text) if is_python(change[-1])]
        for line, old, new, changed in draw.sample(found, min(sample, len(found))):
            shown = text.splitlines()[line - 1].strip()
            if (module, shown, new) in known:
                continue
            path.write_text(changed, encoding="utf-8")
            tried += 1
            alive, _ = survives(folder, WATCHED[module], 60 + 4 * seconds)
            if alive:
                left.append((line, shown, old, new))
                print(f"  not noticed: {module}.py:{line}: `{old}` → `{new}` in `{shown}`", flush=True)
        return tried, left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", choices=[[], *WATCHED], default=[], metavar="module")
    parser.add_argument("--sample", type=int, default=20, help="places a module")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total = missed = 0
    for module in options.modules or WATCHED:
        tried, left = watch(module, options.sample, random.Random(f"{options.seed}{module}"))
        print(f"{module}: {tried - len(left)} of {tried} changes noticed", flush=True)
        total, missed = total + tried, missed + len(left)
    print(f"all: {total - missed} of {total} changes noticed ({(total - missed) / max(total, 1):.0%})")


if __name__ == "__main__":
    main()
