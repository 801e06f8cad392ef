"""The indexes of exercises and claims are made from the chapters: no chapter may be missing from them, nor a word be lost."""

import json
import re

import pytest
from book_helpers import ROOT
from deepnotes_ext.notebooks import split_directives
from deepnotes_ext.overview import VERDICTS, read_exercise_title

PAGES = sorted([*(ROOT / "nbs").glob("[0-9]*.ipynb"), *(ROOT / "nbs" / "library").rglob("*.ipynb")])  # exercises stand in both
CHAPTERS = [path for path in PAGES if re.match(r"\d\d_", path.name)]


def text(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def exercises(path):
    return re.findall(r"^`{3,}\{exercise(?:-start)?\} *(.*)\n:label: (\S+)$", text(path), re.MULTILINE)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_chapter_has_claims_and_exercises(path):
    assert re.findall(r"^`{3,}\{claim\} \S", text(path), re.MULTILINE), "no claim: {claim} is what the index is made of"
    assert len(exercises(path)) >= 5


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_an_exercise_has_stars_first_and_a_solution_or_the_word_open(path):
    solved = set(re.findall(r"^`{3,}\{solution(?:-start)?\} *(\S+)$", text(path), re.MULTILINE))
    for title, label in exercises(path):
        parts = read_exercise_title(title)
        assert parts, f"{label}: {title}"
        assert parts[2] or label in solved, f"{label} has no solution and is not open"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_a_verdict_stands_in_a_claim_where_the_index_finds_it(path):
    outside = re.sub(r"^(`{3,})\{claim\}.*?^\1$", "", text(path), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"\*[^*\n]+\*[.:]? \*\*(?:Holds|Corrected)", outside)


def test_every_verdict_is_used():
    found = {v for path in CHAPTERS for v in re.findall(r"^:verdict: (.+)$", text(path), re.MULTILINE)}
    assert found == set(VERDICTS)


@pytest.mark.parametrize(
    ("title", "parts"),
    [
        ("★ By hand", ("★", "By hand", False)),
        ("★★ Two (or three) ways", ("★★", "Two (or three) ways", False)),
        ("★★★ How many? (open)", ("★★★", "How many?", True)),
        ("By hand ★", None),
        ("By hand", None),
        ("★★★★ Too many", None),
        ("★", None),
    ],
)
def test_titles_of_exercises(title, parts):
    assert read_exercise_title(title) == parts


@pytest.mark.parametrize("path", sorted((ROOT / "nbs").glob("*.ipynb")), ids=lambda p: p.stem)
def test_options_are_texts_with_single_backslashes(path):
    from deepnotes_ext.notebooks import FIGURE, read_option

    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        for name, value in split_directives("".join(cell["source"]))[0]:
            if name in FIGURE:
                assert not re.search(r"\\\\[a-zA-Z]", read_option(value)), f"#| {name}: {value}"
                assert read_option(value).count("$") % 2 == 0, f"#| {name}: {value}"
