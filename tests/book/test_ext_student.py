"""The student edition: what a reader opens has its numbers, runs with what readers have, and hides nothing that it needs."""

import re

import book_helpers  # noqa: F401 - finds the extension
import pytest
from deepnotes_ext.student import (
    Edition,
    as_import,
    binder,
    first_cells,
    prepares,
    requirements,
    take_glue,
    without_glue,
)
from deepnotes_ext.words import Words

SAID = {"fig-04-hook": "Fig. 4.1", "eq-04-nll": "(4.1)", "sec-04-principle": "One principle", "ex-04-hand": "4.1",
        "05_initialization": "Initialization"}
CITED = {"glorot2010": ("Glorot and Bengio", "2010"), "he2015": ("He et al.", "2015")}
PAGE = "https://example.org/nbs/04_outputs.html"
SETTINGS = {"git_url": "https://example.org/deepnotes", "branch": "main"}


@pytest.fixture
def words():
    return Words(SAID, CITED, {"4.error": "0.012345", "4.tiny": "1.9e-07", "4.word": "'most'"}, PAGE)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("an error of {glue:text}`4.error:.2f`, {glue:text}`4.word`", "an error of 0.01, most"),
        ("up to {glue:text}`4.tiny:.0e`", "up to 2·10⁻⁷"),
        ("see {numref}`fig-04-hook` and {eq}`eq-04-nll`", "see Fig. 4.1 and (4.1)"),
        ("{numref}`figure %s <fig-04-hook>`", "figure 4.1"),
        ("{ref}`the rule <sec-04-principle>`; {ref}`sec-04-principle`", "the rule; One principle"),
        ("{cite:t}`glorot2010` {cite:p}`glorot2010,he2015`", "Glorot and Bengio [2010] [Glorot and Bengio, 2010; He et al., 2015]"),
        ("{py:func}`deepnotes.outputs.softmax`, {py:mod}`deepnotes.outputs`", "`softmax`, `deepnotes.outputs`"),
        ("{term}`gates <gate>`, {term}`gate`, {doc}`05_initialization`", "gates, gate, Initialization"),
        ("$$ a = b $$ (eq-04-nll)", "$$ a = b \\tag{4.1} $$"),
        ("(sec-04-principle)=\n## One principle", '<a id="sec-04-principle"></a>\n\n## One principle'),
        ("[there](05_initialization.ipynb#scale)", "[there](https://example.org/nbs/05_initialization.html#scale)"),
        ("[away](https://other.org/x.ipynb) $x{y}$", "[away](https://other.org/x.ipynb) $x{y}$"),
    ],
)
def test_roles_become_what_the_page_shows(words, text, plain):
    assert words.plain(text) == plain
    assert words.missing == []


def test_what_cannot_be_resolved_is_listed(words):
    assert "…" in words.plain("{glue:text}`4.gone`")
    words.plain("{numref}`fig-04-gone`")
    assert words.missing == ["glue 4.gone", "numref fig-04-gone"]


def markdown(text):
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def code(text, tags=(), outputs=(), **metadata):
    return {"cell_type": "code", "metadata": {"tags": list(tags), **metadata}, "source": text, "outputs": list(outputs)}


def build(words, *cells):
    made = Edition(words, PAGE)
    for cell in cells:
        made.text(cell["source"]) if cell["cell_type"] == "markdown" else made.code(cell)
    return made.notebook([])["cells"]


EXERCISE = [
    markdown("# Output units\n\n> Losses"),
    markdown("```{exercise-start} By hand ★\n:label: ex-04-hand\n```\nReplace the zero."),
    code("mine = 0.0  # then: check(mine)"),
    markdown("```{exercise-end}\n```"),
    code("def check(x): assert x == 1", tags=["hide-input"]),
    code("for wrong in (0, 2):\n    try:\n        check(wrong)\n    except AssertionError:\n        found = True", tags=["remove-cell"]),
    markdown("````{solution-start} ex-04-hand\n:class: dropdown\n````\nIt is one."),
    code("check(1)"),
    markdown("````{solution-end}\n````"),
    markdown("## Summary"),
]


def test_a_check_stands_before_the_answer_and_the_solution_at_the_end(words):
    cells = build(words, *EXERCISE)
    sources = [cell["source"] for cell in cells]
    position = {name: next(i for i, s in enumerate(sources) if name in s) for name in
                ("Exercise 4.1: By hand ★", "def check", "mine = 0.0", "## Summary", "## Solutions", "It is one", "check(1)")}
    assert list(position.values()) == sorted(position.values())
    assert not any("wrong in" in s for s in sources)                     # the book's own test of its check
    folded = [cell for cell in cells if cell["metadata"].get("jupyter", {}).get("source_hidden")]
    assert [c["source"].splitlines()[0] for c in folded] == ["#@title Check", "#@title Solution"]


def test_the_notebook_runs_without_the_book(words):
    namespace = {}
    for cell in build(words, *EXERCISE):
        if cell["cell_type"] == "code":
            exec(cell["source"], namespace)
    assert namespace["mine"] == 0.0


def test_ids_are_unique_and_stay_while_a_cell_does(words):
    cells = build(words, *EXERCISE, code("x = 1"), code("x = 1"))
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)
    longer = build(words, *EXERCISE[:2], markdown("One sentence more."), *EXERCISE[2:])
    assert {cell["id"] for cell in build(words, *EXERCISE)} < {cell["id"] for cell in longer}


def test_library_cells_become_an_import_of_what_they_define():
    cell = "import math\nfrom contextlib import suppress\ndef softmax(z): ...\ndef _read(x): ...\nnothing = 1"
    text = as_import(cell, "deepnotes.outputs")
    namespace = {}
    exec(text, namespace)
    assert "import math" in text and "suppress" in namespace and callable(namespace["_read"]) and "nothing" not in namespace


def test_glue_leaves_no_trace():
    code = without_glue("from myst_nb import glue\nx = 1\nglue('4.x', x,\n     display=False)\ndef f():\n    glue('4.y', 2)\nf()")
    namespace = {}
    exec(code, namespace)                                                # without myst_nb
    assert namespace["x"] == 1 and "4.x" not in code
    cells = [{"outputs": [{"metadata": {"scrapbook": {"name": name}}, "data": {"text/plain": "3.0"}}, {"output_type": "stream"}]}
             for name in ("4.a", "application/papermill.record/4.b")]
    assert take_glue(cells) == {"4.a": "3.0", "4.b": "3.0"} and [len(c["outputs"]) for c in cells] == [1, 1]


@pytest.mark.parametrize(("code", "kept"), [("import numpy as np", True), ("x = 3", True), ("def f(): ...", True),
                                            ("for k in range(3):\n    check(k)", False), ("test_eq(1, 1)", False),
                                            ("wrong = 3\ntest_fail(\n    check_it, args=(wrong,))", False)])
def test_hidden_cells_stay_when_something_may_need_them(code, kept):
    assert prepares(code) is kept


def test_the_first_cells_install_what_is_missing_and_write_what_is_read(tmp_path, monkeypatch):
    install, ready = first_cells(requirements(SETTINGS), {"benchmarks/results/x.json": '{"a": "it\'s"}'})
    asked = []
    plain = install["source"].replace('    %pip install -q {" ".join(f\'"{pip}"\' for pip in missing)}', "    asked.extend(missing)")
    exec(plain, {"asked": asked})
    assert asked == []                                                   # here all is there
    exec(plain.replace("'deepnotes'", "'nowhere_to_be_found'"), {"asked": asked})
    assert asked == ["deepnotes[sklearn] @ git+https://example.org/deepnotes@main"]
    monkeypatch.chdir(tmp_path)
    exec(ready["source"], {})
    assert (tmp_path / "benchmarks/results/x.json").read_text() == '{"a": "it\'s"}'


def test_binder_installs_what_the_first_cell_would_and_nothing_of_this_folder():
    lines = binder(SETTINGS)["requirements.txt"].splitlines()
    assert lines[0] == requirements(SETTINGS)["deepnotes"] and not any(line.startswith((".", "#")) for line in lines)
    pins = dict(line.split("==") for line in lines[1:])
    assert int(pins["fastcore"].partition(".")[0]) < 2 and {"numpy", "numba", "scikit-learn", "jupyterlab"} < set(pins)
