"""What a reader meets in a chapter: counted on notebooks small enough to count by hand, for the status page and the tool."""

import importlib.util
from types import SimpleNamespace

import nbformat
import pytest
from book_helpers import ROOT, code, markdown, notebook
from deepnotes_ext.measures import PAIRS, WATCH, code_height, measure, outside_solutions, pairs_of, words_of
from deepnotes_ext.notebooks import convert_notebook
from myst_nb.ext.glue import extract_glue_data_cell

import deepnotes.comparing as comparing

PAGE = notebook(
    markdown("# Two words\n\nThree more $x + 1$ words, see {ref}`there <sec-there>`.\n\n$$\na = b\n$$ (eq-one)"),
    code("#| default_exp units"),
    code("#| export\ndef f(x):\n    return x"),
    code("x = 12345678901234567890"),
    code("#| hide\nhidden = 1\nunseen = 2"),
    code("#| code-fold: true\nfolded = 'so wide a line that it would be the widest of all if it stood in the open'"),
    markdown("```{claim} One holds\n:verdict: holds\nIt does.\n```"),
    markdown("## Exercises\n\n```{exercise-start} ★ Try\n:label: ex-try\n```\nMany words that nobody counts."),
    code("answer = 0  # then: check(answer)"),
    markdown("````{solution-start} ex-try\n:class: dropdown\n````\nSo."),
    code("answer = 'a line of a solution, which is open only to those who ask'"),
    markdown("````{solution-end}\n````"),
    markdown("## Summary\n\nDone."),
)


def counted(page=PAGE):
    return measure(convert_notebook(notebook(*({**cell, "metadata": {}} for cell in page["cells"])), lambda message: None))


def test_words_open_cells_and_lines_are_those_that_a_reader_meets():
    found = counted()
    assert found.words == len("Two words Three more words see there It does".split())  # a formula has no words, a claim's title is a title
    assert found.open_cells == 3  # f, x, answer
    assert found.widest == len("answer = 0  # then: check(answer)")
    assert found.library_share == 2 / 8  # of f, x, the hidden and the folded cell, the answer and its solution
    assert found.pairs == () and found.experiments() == "none"


def test_words_of_a_formula_and_of_a_directive_do_not_count():
    assert words_of("```{figure} x.png\nA b\n```\nc ${glue:text}`n` d$ it's") == ["c", "it's"]
    assert words_of("{glue:text}`01.n:.0%` of {py:func}`relu`") == ["0", "of", "relu"]


def test_more_code_is_a_larger_share_and_more_text_a_smaller_one():
    base = counted().code_share
    assert 0 < base < 1
    assert counted({"cells": [*PAGE["cells"][:4], code("a = 1\n" * 30), *PAGE["cells"][4:]]}).code_share > base
    assert counted({"cells": [markdown("word " * 500), *PAGE["cells"]]}).code_share < base


def test_a_figure_counts_by_its_height():
    figure = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": '<svg width="9pt" height="300pt"></svg>'}}
    page = {"cells": [*PAGE["cells"], {**code("draw()"), "outputs": [figure]}]}
    plain = {"cells": [*PAGE["cells"], code("draw()")]}
    heights = [measure({"cells": [{**c, "metadata": {}} for c in p["cells"]]}).code_share for p in (page, plain)]
    total = [code_height("x") / share for share in heights]
    assert heights[0] < heights[1] and total[0] > total[1]


def test_a_long_line_takes_two():
    assert code_height("x" * 86) - code_height("x" * 85) == pytest.approx(code_height("x\nx") - code_height("x"))


def test_a_solution_is_closed_until_it_is_asked_for():
    sources = [cell["source"] for cell in outside_solutions(PAGE["cells"])]
    assert not any("So." in source or "of a solution" in source for source in sources)
    assert sources[-1].startswith("## Summary")


def test_the_run_itself_tells_how_many_pairs_each_comparison_had(monkeypatch):
    monkeypatch.setattr(comparing, "Paired", comparing.Paired)  # so that what the hidden cell puts there is taken away again
    published, after = [], []
    shell = SimpleNamespace(
        display_pub=SimpleNamespace(publish=lambda data, metadata: published.append((data, metadata))),
        events=SimpleNamespace(register=lambda moment, call: after.append((moment, call))),
    )
    exec(WATCH, {"get_ipython": lambda: shell})
    [(moment, tell)] = after
    assert moment == "post_run_cell"
    found = comparing.paired([1.0, 2.0, 4.0], [0.0, 3.0, 2.0])
    comparing.paired(range(10), range(1, 11))
    tell(None)
    tell(None)  # a cell without a comparison leaves nothing
    [(data, metadata)] = published
    assert metadata[PAIRS] == [3, 10] and list(data) == ["application/papermill.record/text/plain"]
    assert repr(found).startswith("Paired(") and found.pairs == 3
    outputs = [{"output_type": "display_data", "data": data, "metadata": metadata} for data, metadata in published]
    page = {"cells": [{**code("paired(a, b)"), "outputs": outputs}]}
    assert list(pairs_of(page)) == [3, 10] and measure(page).experiments() == "2 of 3 to 10 pairs"
    executed = nbformat.from_dict(page)
    extract_glue_data_cell(executed.cells[0])
    assert executed.cells[0].outputs == []  # nothing of it is rendered: a figure's label would stand twice


def test_the_tool_has_a_row_for_every_chapter(tmp_path):
    spec = importlib.util.spec_from_file_location("measure_tool", ROOT / "tools" / "measure.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = list(tool.rows(tmp_path))
    assert [row[0] for row in rows] == sorted(path.stem for path in (ROOT / "nbs").glob("[0-9]*_*.ipynb"))
    assert all(len(row) == len(tool.HEADER) + 2 and int(row[1].replace(",", "")) > 500 and row[-1] == "not run" for row in rows)
