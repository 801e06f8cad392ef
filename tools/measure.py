"""What a reader meets in each chapter, as the status page shows it: `python tools/measure.py` after `make book`.

    python tools/measure.py [_build]

Per chapter: words of prose before the exercises, open code cells, the widest line of open code in columns, the share of open code in
the height of the page, the share of exported lines, the comparisons in pairs, and the run time in the book. Figures, pairs and times
come from the runs that the book's cache keeps; a chapter that has changed since has none, and says so.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "_ext"))

from deepnotes_ext.execution import kept_run  # noqa: E402
from deepnotes_ext.measures import HEADER, measure  # noqa: E402
from deepnotes_ext.notebooks import convert_notebook  # noqa: E402


def rows(build, root=ROOT):
    """A row of words for each chapter; `build` holds the book's cache, or nothing."""
    for path in sorted((root / "nbs").glob("[0-9]*_*.ipynb")):
        ran = None
        if (build / ".jupyter_cache").is_dir():
            ran, seconds = kept_run(path, build / ".jupyter_cache", root / "deepnotes")
        if ran is None:
            plain = convert_notebook(json.loads(path.read_text(encoding="utf-8")), lambda message: None)
            *counted, _ = measure(plain).row()
            yield [path.stem, *counted, "not run", "not run"]
        else:
            yield [path.stem, *measure(ran).row(), "not measured" if seconds is None else f"{seconds:.1f} s"]


def main():
    build = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "_build"
    table = [["Chapter", *HEADER, "Run time"], *rows(build)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *numbers in table:
        print(name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)), sep="  ")


if __name__ == "__main__":
    main()
