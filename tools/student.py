"""Run the student edition as a reader would: `make test-student`, after `make book`.

    python tools/student.py ENVIRONMENT [name ...]

Every notebook of `_build/html/student` (or the named ones) runs from top to bottom in ENVIRONMENT, a Python that has what
Colab has and what the notebook's first cell installs, and nothing else: no book, no nbdev, no tests. It runs in an empty
folder, away from the repository. Each exercise has an answer cell that names its check (`# then: check_by_hand(mine)`), unless
it is an open study: the check is called on the skeleton and has to refuse it with a sentence; the solutions below call it on theirs.
"""

import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
EDITION = ROOT / "_build" / "html" / "student"
REFUSED = """\
try:
    {call}
except AssertionError as refusal:
    if " " not in str(refusal):
        raise ValueError("the check does not say what is wrong: " + {call!r}) from None
else:
    raise ValueError("the check accepts the skeleton: " + {call!r})"""
EXERCISE = re.compile(r"^### Exercise [\d.]*: ★.*$", re.MULTILINE)


def kernel_of(environment, folder):
    """A kernel specification for that environment's Python, in a folder of its own; its name."""
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "student", "language": "python"}
    place = folder / "kernels" / "deepnotes-student"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(folder)
    for name in ("PYTHONPATH", "PYTHONHOME"):  # the reader has neither the repository nor our environment
        os.environ.pop(name, None)
    return place.name


def with_skeletons_checked(notebook):
    """The notebook with a cell behind each answer cell that calls the named check and expects a refusal."""
    cells, asked = [], 0
    for cell in notebook.cells:
        cells.append(cell)
        call = re.search(r"# then: (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "code" else None
        if call:
            asked += 1
            cells.append(nbformat.v4.new_code_cell(REFUSED.format(call=call[1].strip())))
    notebook.cells = cells
    return asked


def solvable(notebook):
    """How many exercises are not open studies, and so have a check."""
    titles = [title for cell in notebook.cells if cell.cell_type == "markdown" for title in EXERCISE.findall(cell.source)]
    return sum(not title.endswith("(open)") for title in titles)


def run(path, kernel):
    """Run one notebook; its line for the report, and whether it ran through."""
    notebook = nbformat.read(path, 4)
    figures = sum("image/svg+xml" in output.get("data", {}) for output in outputs_of(notebook))
    asked, begin = with_skeletons_checked(notebook), time.perf_counter()
    if asked < solvable(notebook):
        return f"✗ {path.stem}: {solvable(notebook)} exercises have a check, {asked} answer cells name one", False
    with tempfile.TemporaryDirectory() as folder:
        try:
            NotebookClient(notebook, timeout=600, kernel_name=kernel, resources={"metadata": {"path": folder}}).execute()
        except CellExecutionError as error:
            return f"✗ {path.stem}: {error.ename}: {error.evalue}\n{error.traceback}", False
    drawn = sum("image/svg+xml" in output.get("data", {}) for output in outputs_of(notebook))
    line = f"{path.stem}: {len(notebook.cells)} cells in {time.perf_counter() - begin:.0f} s, {drawn} figures, {asked} skeletons refused"
    return (f"✓ {line}", True) if drawn == figures else (f"✗ {line}; the page has {figures} figures", False)


def outputs_of(notebook):
    """Every output of every cell."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def main(environment, *names):
    """Run them, two at a time; status 1 if one fails."""
    paths = [p for p in sorted(EDITION.glob("*.ipynb")) if not names or p.stem in names]
    if not paths:
        sys.exit(f"Error: no student edition in {EDITION}: run `make book` first.")
    with tempfile.TemporaryDirectory() as folder:
        kernel = kernel_of(Path(environment).resolve(), Path(folder))
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two readers on one machine: BLAS threads of both would wait for each other
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            done = []
            for line, passed in pool.map(lambda path: run(path, kernel), paths):
                print(line, flush=True)
                done.append(passed)
    failed = len(done) - sum(done)
    print(f"{sum(done)} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
