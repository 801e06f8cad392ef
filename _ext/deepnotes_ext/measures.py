"""What a reader meets in a chapter, counted: words, open cells, lines, the share of code, experiments in pairs.

One set of numbers, read from the executed notebook, for two places: the status page and ``tools/measure.py``. How high code
and text stand on the page is reckoned from their lines (:data:`CODE_LINE` and its neighbors, in pixels of the built page at
a width of 1280): a browser's own count differs by a few hundredths.

How many pairs an experiment had is said by the run itself: :data:`WATCH`, a part of the hidden first cell of each chapter that
imports ``deepnotes.comparing``, leaves the counts in the metadata of an output that shows nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .code import COLUMNS

#: pixels: a line of code, of text; a heading, the space around a block, that around a cell; a figure, a folded cell
CODE_LINE, TEXT_LINE, HEADING, GAP, APART, FIGURE, FOLD = 22, 26, 60, 22, 28, 360, 52
#: letters in a line of text beside the contents on a laptop
LETTERS = 88
PAIRS = "deepnotes_pairs"

#: for the kernel: every call of `paired` is counted, and told when its cell has run
WATCH = f'''
def _watch_pairs(shell):
    "Tell how many pairs each comparison of a cell had."
    import deepnotes.comparing as comparing

    made, told, Paired = [], [], comparing.Paired

    class Watched(Paired):
        def __init__(self, *numbers, **named):
            super().__init__(*numbers, **named)
            made.append(self.pairs)

    def tell(result=None):
        if made:
            told.append(list(made))
            # as glue does, so that it stands on no page: a figure's output would carry its label a second time
            prefix = "application/papermill.record/"
            scrapbook = {{"name": f"{PAIRS}.{{len(told)}}", "mime_prefix": prefix}}
            shell.display_pub.publish({{prefix + "text/plain": str(made)}}, {{"{PAIRS}": list(made), "scrapbook": scrapbook}})
            made.clear()

    Watched.__name__, Watched.__qualname__, Watched.__module__ = Paired.__name__, Paired.__qualname__, Paired.__module__
    comparing.Paired = Watched
    shell.events.register("post_run_cell", tell)


_watch_pairs(get_ipython())
'''

_HIDDEN = frozenset({"remove-cell", "remove-input", "hide-input", "hide-cell"})
_RAW = re.compile(r"^(`{3,}|:{3,})\{(?:raw|figure|image|interactive|widget)\}.*?^\1|<svg.*?</svg>|<!--.*?-->", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^\s*(`{3,}|:{3,}).*$|^\s*:[\w-]+:.*$|^\([\w-]+\)=$", re.MULTILINE)
_ROLE = re.compile(r"\{[\w:-]+\}`([^`<]*)[^`]*`")


@dataclass(frozen=True)
class Measure:
    """One chapter in numbers; :func:`measure` counts them."""

    words: int
    open_cells: int
    widest: int
    code_share: float
    library_share: float
    pairs: tuple[int, ...]

    def experiments(self) -> str:
        """How many comparisons in pairs, and of how many pairs.

        >>> Measure(0, 0, 0, 0.0, 0.0, (20, 10, 12)).experiments()
        '3 of 10 to 20 pairs'
        >>> Measure(0, 0, 0, 0.0, 0.0, ()).experiments()
        'none'
        """
        if not self.pairs:
            return "none"
        least, most = min(self.pairs), max(self.pairs)
        return f"{len(self.pairs)} of {least} pairs" if least == most else f"{len(self.pairs)} of {least} to {most} pairs"

    def row(self) -> list[str]:
        """The cells of a table, in the order of :data:`HEADER`."""
        return [f"{self.words:,}", str(self.open_cells), str(self.widest), f"{self.code_share:.0%}", f"{self.library_share:.0%}",
                self.experiments()]


HEADER = ["Words", "Open cells", "Widest line", "Code, of the height", "Library, of the lines", "Experiments in pairs"]


def measure(notebook: dict[str, Any]) -> Measure:
    """Count what stands in a chapter.

    Parameters
    ----------
    notebook : dict
        The chapter after :func:`~deepnotes_ext.notebooks.convert_notebook`; with its outputs, if figures and pairs are to count.

    Returns
    -------
    Measure
        Words are those of the prose before the exercises, formulas not counted. A line is wide by the columns of open code. The share
        of code is that of open code in the height of the page; the share of the library that of exported lines in all lines of code.
    """
    cells = [cell for cell in notebook["cells"] if cell.get("id") != "deepnotes-setup"]
    read = list(outside_solutions(cells))
    shown = [_source(cell).rstrip() for cell in read if _is_code(cell) and not _HIDDEN & _tags(cell)]
    code = sum(map(code_height, shown))
    lines = {exported: sum(len(_lines(_source(cell))) for cell in cells if _is_code(cell) and ("exported" in _tags(cell)) == exported)
             for exported in (True, False)}
    return Measure(
        words=sum(len(words_of(text)) for text in before_exercises(cells)),
        open_cells=len(shown),
        widest=max((len(line) for source in shown for line in source.splitlines()), default=0),
        code_share=code / max(1, code + rest_height(read)),
        library_share=lines[True] / max(1, sum(lines.values())),
        pairs=tuple(pairs_of(notebook)),
    )


def before_exercises(cells: list[dict[str, Any]]) -> Iterator[str]:
    """The texts of a chapter up to its exercises."""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            text, found, _ = _source(cell).partition("\n## Exercises")
            if text.startswith("## Exercises"):
                return
            yield text
            if found:
                return


def outside_solutions(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The cells that a reader meets who opens no solution."""
    inside = False
    for cell in cells:
        text = "" if _is_code(cell) else _source(cell)
        if not inside:
            yield cell if "{solution-start}" not in text else {**cell, "source": text.partition("````{solution-start}")[0]}
        if "{solution-start}" in text:
            inside = True
        if "{solution-end}" in text:
            inside = False


def words_of(text: str) -> list[str]:
    """The words of a piece of MyST: no formulas, no names of directives and labels, of a role what it shows.

    >>> words_of("(sec-x)=\\nSo $a < b$ is {ref}`proved <sec-y>` in **one** line:\\n$$ a = 1 $$")
    ['So', 'is', 'proved', 'in', 'one', 'line']
    """
    text = re.sub(r"\$\$.*?\$\$(?: *\([\w-]+\))?|\$[^$\n]+(?:\n[^$\n]+)?\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"\{glue:\w+\}`[^`]*`", "0", _RAW.sub(" ", text))
    text = _FENCE.sub(" ", _ROLE.sub(r"\1", text))
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", " ", text)
    return re.findall(r"\w[\w’'.-]*\w|\w", text)


def pairs_of(notebook: dict[str, Any]) -> Iterator[int]:
    """How many pairs each comparison of an executed chapter had, in order."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            yield from output.get("metadata", {}).get(PAIRS, [])


def code_height(source: str) -> float:
    """How high a piece of open code stands on the page, in pixels; long lines take two."""
    return GAP + CODE_LINE * sum(max(1, -(-len(line) // COLUMNS)) for line in source.splitlines())


def rest_height(cells: list[dict[str, Any]]) -> float:
    """How high all the rest stands: text, formulas, figures, outputs, folds."""
    return sum(APART + (_outputs_height(cell) if _is_code(cell) else _text_height(_source(cell))) for cell in cells)


def _text_height(text: str) -> float:
    height = 0.0
    for block in re.split(r"\n\s*\n", text):
        if block.startswith("#"):
            height += HEADING
        elif block.startswith("|"):
            height += GAP + 1.4 * TEXT_LINE * len(block.splitlines())
        elif "$$" in block or "svg" in block:
            height += 2.5 * GAP + TEXT_LINE * (1 + len(block.splitlines()))
        elif "dn-widget" in block:
            height += GAP + FIGURE
        else:
            height += GAP + TEXT_LINE * len(textwrap.wrap(" ".join(words_of(block)), LETTERS))
    return height


def _outputs_height(cell: dict[str, Any]) -> float:
    tags = _tags(cell)
    if "remove-cell" in tags:
        return 0
    height = float(FOLD) if {"hide-input", "hide-cell"} & tags else 0.0
    if {"remove-output", "hide-cell"} & tags:
        return height
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if "image/svg+xml" in data:
            height += GAP + _figure_height("".join(data["image/svg+xml"]))
        elif "image/png" in data:
            height += GAP + FIGURE
        elif "text/plain" in data or "text" in output:
            text = "".join(output.get("text", data.get("text/plain", "")))
            height += GAP + CODE_LINE * len(text.splitlines())
    return height


def _figure_height(svg: str) -> float:
    points = re.search(r'<svg[^>]*\bheight="([\d.]+)pt"', svg)
    return float(points[1]) * 4 / 3 if points else FIGURE


def _is_code(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "code"


def _tags(cell: dict[str, Any]) -> set[str]:
    return set(cell.get("metadata", {}).get("tags", []))


def _source(cell: dict[str, Any]) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _lines(source: str) -> list[str]:
    return [line for line in source.splitlines() if line.strip()]
