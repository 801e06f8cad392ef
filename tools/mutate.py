"""Do the tests notice? Change one operator or constant of the library at a time, and see whether a test fails.

    python tools/mutate.py training/trainer training/loader --sample 20 --seed 1
    python tools/mutate.py autograd kernels --sample 30

For each module or package named (or all of `WATCHED`) a number of places is drawn, in a package from all its modules together;
each is changed in a copy of the tree, and the tests that belong to the module run there until the first failure: at first those
that came by the changed lines, the quickest ahead, then the others. A change that no test notices is printed with its line.
Those that cannot be noticed, because both programs do
the same, stand in `tests/data/equivalent_mutants.json` with the reason, and do not count.

This file is also the plugin of these test runs: it writes down which test comes by which lines, and has a changed kernel
compiled again, but not all others with it.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "tests" / "data" / "equivalent_mutants.json"
#: which tests answer for which module, the closest first; a module is a path below deepnotes/ without its ending
WATCHED = {
    "training/trainer": ["test_training.py", "test_training_loop.py", "test_data_doors.py", "test_life.py"],
    "training/segments": ["test_training.py", "test_training_loop.py", "test_life.py"],
    "training/diagnose": ["test_training.py", "test_training_loop.py"],
    "training/resume": ["test_training_loop.py", "test_golden.py", "test_files.py", "test_copies.py"],
    "training/checkpoints": ["test_golden.py", "test_checkpoints.py", "test_files.py", "test_copies.py"],
    "training/loader": ["test_training_loop.py", "test_golden.py", "test_data_doors.py"],
    "training/callbacks": ["test_training.py", "test_training_loop.py", "test_data_doors.py"],
    "capture/judge": ["test_capture.py", "test_small_promises.py", "test_capture_python.py", "differential"],
    "capture/reach": ["test_capture_python.py", "test_capture.py"],
    "capture/record": ["test_capture.py", "test_capture_numbers.py", "differential"],
    "capture/captured": ["test_capture.py", "test_capture_numbers.py"],
    "capture/fuse": ["test_capture.py", "test_small_promises.py", "differential"],
    "capture/numbers": ["test_capture_numbers.py"],
    "schedules": ["test_schedules.py"],
    "autograd/tape": ["test_autograd.py", "test_small_promises.py", "test_autograd_ops.py", "test_backprop_chapter.py"],
    "autograd/operations": ["test_autograd_ops.py", "test_small_promises.py", "test_autograd.py", "test_numbers.py"],
    "outputs": ["test_outputs.py", "test_small_promises.py", "test_outputs_chapter.py"],
    "kernels/core": ["test_kernels.py", "test_kernels_chapter.py", "user/test_compiler_fails.py"],
    "kernels/sums": ["test_sums.py", "test_kernels.py", "test_kernels_chapter.py"],
    "kernels/rows": ["test_kernels.py", "test_outputs.py", "test_kernels_chapter.py"],
    "kernels/gather": ["test_kernels.py", "test_sums.py"],
    "kernels/losses": ["test_outputs.py", "test_outputs_chapter.py"],
    "kernels/steps": ["test_optimizers.py", "test_optimizers_chapter.py"],
    "training/epochs": ["test_training_loop.py", "test_training.py", "test_data_doors.py", "test_golden.py"],
    "training/history": ["test_history.py", "test_training.py", "test_training_loop.py"],
    "training/weights": ["test_weights.py", "test_training_loop.py"],
    "training/probabilities": ["test_probabilities.py", "test_estimators.py"],
    "autograd/promotion": ["test_numbers.py", "test_autograd.py", "test_autograd_ops.py"],
    **{f"autograd/{name}": ["test_autograd_names.py", "test_autograd_ops.py", "test_autograd.py"]
       for name in ("creation", "logic", "rounding", "running", "sorting", "trigonometry")},
}
#: and for modules of a package that have no line above
BY_PACKAGE = {
    "training": ["test_training.py", "test_training_loop.py", "test_data_doors.py", "test_golden.py", "test_weights.py"],
    "capture": ["test_capture.py", "test_capture_numbers.py", "test_capture_python.py", "differential"],
    "autograd": ["test_autograd.py", "test_autograd_names.py", "test_autograd_ops.py", "test_tensor_class.py",
                 "test_autograd_conformance.py"],
    "kernels": ["test_kernels.py", "test_kernels_registry.py", "test_autograd_names.py", "test_sums.py"],
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


def modules_of(name, root=ROOT):
    """The modules that a name stands for: itself, or those of a package."""
    folder = root / "deepnotes" / name
    return [f"{name}/{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"] or [name]


def tests_of(module):
    """Names of the tests that answer for a module."""
    return WATCHED.get(module) or BY_PACKAGE[module.split("/")[0]]


def path_of(folder, name):
    """Where in the tree of tests a file or folder of this name is: no two have the same."""
    return next((folder / "tests").rglob(name)).relative_to(folder)


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


# ── Inside a test run ────────────────────────────────────────────────────────────────────────────────────────────────

SEEN = {}  # of each test: seconds, and the lines of watched modules that it came by


class Lines:
    "Which lines of some files run, by the interpreter's own trace; compiled loops have none."

    def __init__(self, files):
        self.files, self.found = files, set()

    def call(self, frame, event, _):
        module = self.files.get(frame.f_code.co_filename)
        if module is None:
            return None

        def line(frame, event, _):
            self.found.add((module, frame.f_lineno))
            return line

        return line(frame, event, _)

    def __enter__(self):
        threading.settrace(self.call)
        sys.settrace(self.call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)
        threading.settrace(None)


def pytest_configure(config):
    if os.environ.get("MUTATE_MODULE", "").startswith("kernels/"):
        keep_machine_code(os.environ["MUTATE_MODULE"])


def pytest_runtest_protocol(item, nextitem):
    """Note the lines of a test as it runs (its set-up, too)."""
    if "MUTATE_LINES" not in os.environ:
        return None
    from _pytest.runner import runtestprotocol
    names = os.environ["MUTATE_MODULES"].split()
    files = {str(Path(item.config.rootpath, "deepnotes", f"{name}.py")): name for name in names}
    begin = time.process_time()
    with Lines(files) as lines:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    SEEN[item.nodeid] = time.process_time() - begin, sorted(lines.found)
    return True


def pytest_sessionfinish(session):
    if "MUTATE_LINES" in os.environ:
        Path(os.environ["MUTATE_LINES"]).write_text(json.dumps(SEEN), encoding="utf-8")


def keep_machine_code(module):
    """Loops that do not come from the changed module keep their key in the cache; those that do get one of their own."""
    from deepnotes.compiler import cache, loops
    cache.STAMPED = tuple(name for name in cache.STAMPED if name.replace(".", "/") != module)
    changed, name = Path(cache.__file__).parent.parent / f"{module}.py", f"deepnotes.{module}".replace("/", ".")
    tag = hashlib.sha256(changed.read_bytes()).hexdigest()
    compiled_function, machine_code = loops.compiled_function, loops.machine_code

    def anew(function, dtype, signature, apart=False):
        reached = [function, *(function.__globals__.get(word) for word in function.__code__.co_names)]
        mine = any(getattr(x, "__module__", None) == name for x in reached)
        loops.machine_code = lambda build, signature, text, apart: machine_code(build, signature, text + tag * mine, apart)
        try:
            return compiled_function(function, dtype, signature, apart)
        finally:
            loops.machine_code = machine_code

    loops.compiled_function = anew


# ── Around it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_tests(folder, tests, limit, output=subprocess.DEVNULL, **more):
    """Whether tests pass there, or None if they hang; they and what they start end after `limit` seconds."""
    env = {"DEEPNOTES_PROGRAMS": "200", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **os.environ,
           "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tools")]),
           "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **more}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "mutate", *tests]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output,
                               start_new_session=os.name == "posix")
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            process.wait()


def map_of_tests(folder, modules):
    """Of each test that belongs to one of the modules, its seconds and lines, from one run in which nothing is changed."""
    tests = sorted({str(path_of(folder, name)) for module in modules for name in tests_of(module)})
    with tempfile.TemporaryDirectory() as name:
        lines = Path(name) / "lines.json"
        if not run_tests(folder, tests, None, None, MUTATE_LINES=str(lines), MUTATE_MODULES=" ".join(modules)):
            sys.exit(f"Error: {' '.join(tests)} fail before anything is changed.")
        return {node: (seconds, {tuple(at) for at in found}) for node, (seconds, found) in json.loads(lines.read_text()).items()}


def statement(text, line):
    """All lines of the innermost statement around a line: the interpreter names but some of them."""
    around = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno]
    inner = max(around, key=lambda node: (node.lineno, -node.end_lineno))
    last = inner.body[0].lineno - 1 if isinstance(getattr(inner, "body", None), list) else inner.end_lineno
    return range(inner.lineno, max(last, line) + 1)


def in_order(module, seen, lines):
    """The tests of a module: those that came by the lines, and the others; the quickest first."""
    own = {node: found for node, found in seen.items() if any(f"/{name}" in node for name in tests_of(module))}
    near = [node for node, (_, found) in own.items() if any((module, line) in found for line in lines)]
    return [sorted(nodes, key=lambda node: own[node][0]) for nodes in (near, own.keys() - set(near))]


def is_noticed(folder, module, seen, lines):
    """Whether a test of the module fails, or never ends, with the change that is there now."""
    for nodes in in_order(module, seen, lines):
        limit = 120 + 10 * sum(seen[node][0] for node in nodes)
        if nodes and not run_tests(folder, nodes, limit, MUTATE_MODULE=module):
            return True
    return False


def watch(folder, modules, seen, sample, draw):
    """Try a sample of the changes of some modules; how many there were, and those that no test noticed."""
    known = {(k["module"], k["line"], k["becomes"]) for k in json.loads(EQUIVALENT.read_text(encoding="utf-8"))}
    texts = {module: (folder / "deepnotes" / f"{module}.py").read_text(encoding="utf-8") for module in modules}
    found = [(module, *change) for module, text in texts.items() for change in changes(text) if is_python(change[-1])]
    tried, left = 0, []
    for module, line, old, new, changed in draw.sample(found, min(sample, len(found))):
        path, text = folder / "deepnotes" / f"{module}.py", texts[module]
        shown = text.splitlines()[line - 1].strip()
        if (module, shown, new) in known:
            continue
        path.write_text(changed, encoding="utf-8")
        tried += 1
        if not is_noticed(folder, module, seen, statement(text, line)):
            left.append((line, shown, old, new))
            print(f"  not noticed: {module}.py:{line}: `{old}` → `{new}` in `{shown}`", flush=True)
        path.write_text(text, encoding="utf-8")
    return tried, left


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *WATCHED, *BY_PACKAGE], default=[], metavar="module or package")
    parser.add_argument("--sample", type=int, default=20, help="places of each name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--near", type=int, help="only the closest files of tests, so many a module; it then misses more")
    options = parser.parse_args()
    total = missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder, names = Path(name).resolve(), options.names or list(WATCHED)
        place_for_work(folder)
        modules = [module for name in names for module in modules_of(name)]
        WATCHED.update({module: tests_of(module)[:options.near] for module in modules})
        seen = map_of_tests(folder, modules)
        for name in names:
            tried, left = watch(folder, modules_of(name), seen, options.sample, random.Random(f"{options.seed}{name}"))
            print(f"{name}: {tried - len(left)} of {tried} changes noticed", flush=True)
            total, missed = total + tried, missed + len(left)
    print(f"all: {total - missed} of {total} changes noticed ({(total - missed) / max(total, 1):.0%})")


if __name__ == "__main__":
    main()
