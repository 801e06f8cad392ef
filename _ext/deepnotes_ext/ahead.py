"""Chapters that have to run, run before Sphinx reads the pages: several at a time, and measurements undisturbed.

Sphinx reads one page after the other, and MyST-NB runs a chapter when its page is read: one kernel works, the other cores
wait. So this part looks first which of the pages jupyter-cache holds no outputs for, runs those chapters, as many at a
time as there are cores (at most :data:`MOST`, or what ``DEEPNOTES_JOBS`` says), and stores the outputs in that cache,
where MyST-NB finds them. The first chapter that fails ends the build.

A cell that reads the clock runs while no other cell does (:class:`Turns`), so that no measurement on a page has another
chapter beside it. Which cells those are is read from the code (:func:`timed_cells`).
"""

from __future__ import annotations

import ast
import json
import os
import re
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import nbformat
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.cache.db import NbProjectRecord
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from .execution import add_setup_cell, describe_failure
from .notebooks import convert_notebook

logger = logging.getLogger(__name__)

#: kernels at a time, however many cores there are: each holds some hundred megabytes
MOST = 4
CLOCK = re.compile(r"\b(perf_counter|process_time|monotonic|timeit)(_ns)?\b")


# -- which cells measure ------------------------------------------------------------------------------------------


def timed_cells(cells: Sequence[dict[str, Any]]) -> set[int]:
    """Positions of the code cells that read the clock, by themselves or by a function of the chapter that does.

    A cell that only defines such a function counts as well; it costs nothing to run it alone. Exported cells do not
    count: what the library measures for itself is on no page.

    Parameters
    ----------
    cells : sequence of dict
        The chapter's cells after :func:`~deepnotes_ext.notebooks.convert_notebook`.
    """
    clocks: set[str] = set()

    def reads_clock(code: str) -> bool:
        return bool(CLOCK.search(code)) or not clocks.isdisjoint(re.findall(r"\w+", code))

    found = set()
    for position, cell in enumerate(cells):
        code = cell["source"]
        if cell["cell_type"] != "code" or "exported" in cell["metadata"].get("tags", []) or not reads_clock(code):
            continue
        found.add(position)
        try:
            tree = ast.parse("\n".join("pass" if line.startswith(("%", "!")) else line for line in code.splitlines()))
        except SyntaxError:
            continue
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and reads_clock(ast.unparse(node)):
                clocks.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and reads_clock(ast.unparse(node)):
                clocks.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


# -- running ------------------------------------------------------------------------------------------------------


class Ended(Exception):
    """The build is over: another chapter failed, or the reader pressed Ctrl-C."""


class Turns:
    """Who may run now: any number of ordinary cells, or one that measures.

    A cell that measures is let in before ordinary ones that came after it, or it might wait for ever.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._running = self._waiting = 0
        self._alone = self._over = False

    def enter(self, alone: bool) -> None:
        """Wait until such a cell may run."""

        def free() -> bool:
            others = self._running if alone else self._waiting
            return self._over or not (self._alone or others)

        with self._changed:
            self._waiting += alone
            self._changed.wait_for(free)
            self._waiting -= alone
            if self._over:
                raise Ended
            self._alone, self._running = alone, self._running + (not alone)

    def leave(self, alone: bool) -> None:
        """Say that the cell is done."""
        with self._changed:
            if alone:
                self._alone = False
            else:
                self._running -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Run:
    """One chapter: its notebook, its kernel, and after :meth:`__call__` how long it took, or what went wrong."""

    def __init__(self, path: Path, notebook: nbformat.NotebookNode, timeout: int, turns: Turns):
        self.path, self.notebook, self.seconds, self.failure = path, notebook, 0.0, None
        self._turns, self._timed, self._alone = turns, timed_cells(notebook.cells), None
        self._client = NotebookClient(
            notebook,
            timeout=timeout,
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,  # would change the cells' metadata, by which the cache knows them
            on_cell_execute=lambda cell, cell_index: self._turn(cell_index in self._timed),
        )

    def __call__(self) -> Run:
        """Run it; the notebook is changed in place."""
        self._began = time.perf_counter()
        try:
            self._turn(False)  # a kernel that starts is no quiet neighbor either
            self._client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError):
            self.failure = traceback.format_exc()
        finally:
            self._give_back()
            self.seconds = time.perf_counter() - self._began
        return self

    def kill(self) -> None:
        """End the kernel at once."""
        process = getattr(getattr(self._client.km, "provisioner", None), "process", None)
        if process is not None:
            process.kill()

    def _turn(self, alone: bool) -> None:
        self._give_back()
        asked = time.perf_counter()
        self._turns.enter(alone)
        self._alone = alone
        self._began += time.perf_counter() - asked  # the time in which others had their turn is not this chapter's

    def _give_back(self) -> None:
        if self._alone is not None:
            self._turns.leave(self._alone)
            self._alone = None


def jobs() -> int:
    """How many chapters run at a time: ``DEEPNOTES_JOBS``, else as many as this process has cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("DEEPNOTES_JOBS") or min(cores, MOST)))


def run_ahead(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run what Sphinx is about to read and jupyter-cache does not hold (event ``env-before-read-docs``)."""
    config = env.mystnb_config
    if config.execution_mode != "cache":
        return
    cache, turns, todo = get_cache(config.execution_cache_path), Turns(), {}
    for docname in docnames:
        path = Path(env.doc2path(docname))
        if path.suffix != ".ipynb":
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        convert_notebook(notebook, lambda message: None, app.config.deepnotes_lib)  # warned about when it is read
        if add_setup_cell(notebook, Path(app.srcdir) / app.config.deepnotes_lib) is None:
            continue
        notebook = nbformat.reads(json.dumps(notebook), as_version=4)  # as MyST-NB will read it
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            todo[docname] = Run(path, notebook, config.execution_timeout, turns)
    ran = Path(app.outdir).parent / ".chapters-run"  # for `make test`, which need not run these a second time
    ran.write_text("")
    with ThreadPoolExecutor(jobs()) as pool:
        # long chapters first, or one of them runs by itself at the end
        order = sorted(todo, key=lambda docname: -todo[docname].path.stat().st_size)
        running = {pool.submit(todo[docname]): docname for docname in order}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    docname, run = running.pop(future), future.result()
                    if run.failure:
                        stop(env, docname, run)
                    store(cache, run)
                    logger.info("%s: executed in %.1f seconds", docname, run.seconds)
                    with ran.open("a", encoding="utf-8") as file:
                        file.write(f"{docname}\n")
        except BaseException:
            turns.end()
            for future, docname in running.items():
                if not future.cancel():
                    todo[docname].kill()
            raise


def store(cache: JupyterCacheAbstract, run: Run) -> None:
    """Put a chapter with its outputs where MyST-NB looks for it."""
    record = cache.add_nb_to_project(str(run.path))
    NbProjectRecord.remove_tracebacks([record.pk], cache.db)
    bundle = CacheBundleIn(run.notebook, record.uri, data={"execution_seconds": run.seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def stop(env: BuildEnvironment, docname: str, run: Run) -> None:
    """Say what failed, and end the build.

    This leaves the process with status 1 instead of raising: Jupyter Book would print two Python tracebacks of its
    own below the one that matters. Nothing of this build has been stored yet, so the next one looks at the chapter again.
    """
    # the reader's notebook has no hidden first cell, so its first cell has the number 1
    cells = [(number, cell["source"]) for number, cell in enumerate(run.notebook.cells) if cell["cell_type"] == "code"]
    message = describe_failure(env.doc2path(docname, base=False), cells[1:], run.failure)
    logger.error("A chapter failed, so the book was not built: %s", message)
    raise SystemExit(1)


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("env-before-read-docs", run_ahead)
