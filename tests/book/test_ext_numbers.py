"""Numbers in sentences: written as a person would, and traced to the line that computed them."""

import re

import pytest
from book_helpers import ROOT, code_cells
from deepnotes_ext.numbers import as_prose, origin


@pytest.mark.parametrize(
    ("formatted", "prose"),
    [
        ("4e-06", "4·10⁻⁶"),
        ("-1.8e-04", "−1.8·10⁻⁴"),
        ("1e-03", "10⁻³"),
        ("1.0e+10", "10¹⁰"),
        ("-0.993", "−0.993"),
        ("97.1", "97.1"),
        ("1,500", "1,500"),
        ("e-mail", "e-mail"),
        ("-", "-"),
        ("1e-03x", "1e-03x"),
    ],
)
def test_machine_notation_becomes_prose(formatted, prose):
    assert as_prose(formatted) == prose and as_prose(prose) == prose


def test_a_number_is_traced_to_the_line_that_gave_it_its_value():
    cells = [
        "%matplotlib inline\nsteps = descend(\n    100)",
        "def put(name, value):\n    glue(name, value)",
        "glue('4.steps', steps['log'], display=False)",
        "for kind in 'ab':\n    put(f'4.best_{kind}', 3)",
        "!ls ?\n%%bash\nnot python",
    ]
    assert origin("4.steps", cells) == "steps = descend("
    assert origin("4.best_a", cells) == "3"
    assert origin("4.other", cells) == ""


def test_a_later_value_does_not_count_and_a_long_line_is_cut():
    cells = ["x = 1", "glue('k', x)", "x = 2"]
    assert origin("k", cells) == "x = 1"
    assert len(origin("k", ["y = f(" + "a, " * 60 + "b)\nglue('k', y)"])) == 90


@pytest.mark.parametrize("chapter", sorted(path.stem for path in (ROOT / "nbs").glob("[01]*.ipynb")))
def test_every_number_of_a_chapter_is_traced(chapter):
    text = (ROOT / "nbs" / f"{chapter}.ipynb").read_text(encoding="utf-8")
    keys = {key.rpartition(":")[0] or key for key in re.findall(r"\{glue:text\}`([^`:]+(?::[^`]*)?)`", text) if "::" not in key}
    cells = code_cells(chapter)
    assert [key for key in sorted(keys) if not origin(key, cells)] == []
