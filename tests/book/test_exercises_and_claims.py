"""The indexes of exercises and claims are made from the chapters: no chapter may be missing from them, nor a word be lost."""

import ast
import json
import re
from collections import Counter

import pytest
from book_helpers import ROOT
from book_helpers import exercises as every_exercise
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


# -- one form for all exercises ---------------------------------------------------------------------------------------

EVERY = [(path, one) for path in PAGES for one in every_exercise(path.relative_to(ROOT / "nbs").with_suffix("").as_posix())]
SOLVABLE = [(path, one) for path, one in EVERY if not one.title.endswith("(open)")]


def named(pairs):
    return pytest.mark.parametrize(("path", "one"), pairs, ids=[one.label for _, one in pairs])


@named(EVERY)
def test_an_exercise_has_a_solution_studies_too(path, one):
    assert f"{{solution-start}} {one.label}\n" in text(path), "no solution: for an open study, what we did and saw"


@named(SOLVABLE)
def test_an_answer_cell_is_wrong_code_that_names_its_check_in_its_last_line(path, one):
    lines = one.answer.strip().split("\n")
    assert re.fullmatch(r"# then: check_\w+\(.*\)", lines[-1]), f"the last line of the answer cell is {lines[-1]!r}"
    assert one.call == lines[-1].removeprefix("# then: ")
    bound, used = ast.parse(one.answer).body, ast.parse(one.call)
    names = {node.id for node in ast.walk(ast.parse(one.answer)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names |= {node.name for node in bound if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    asked = {node.id for node in ast.walk(used) if isinstance(node, ast.Name)} - {one.call.partition("(")[0]}
    assert asked and asked <= names, f"{one.call} is called on {asked - names}, which the answer does not bind"
    for node in bound:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            assert ast.get_docstring(node), f"{node.name} does not say what goes in and what comes out"
    assert all(len(line) <= 76 for line in lines), "wider than the page"


@named(SOLVABLE)
def test_the_statement_asks_for_what_the_answer_cell_binds(path, one):
    statement = text(path).split(f":label: {one.label}\n")[1].split("{exercise-end}")[0]
    for name in re.findall(r"[Ww]rite `(\w+)\(", statement):
        assert re.search(rf"^(?:def|class) {name}\(", one.answer, re.MULTILINE), f"`{name}` is asked for and not in the answer cell"


@named(SOLVABLE)
def test_a_check_says_what_is_wrong_and_the_solution_calls_it(path, one):
    name = one.call.partition("(")[0]
    assert len(one.checks) == 1, "one folded cell that defines the check, right behind the exercise"
    check = one.checks[0]
    assert f"def {name}(" in check
    assert not re.search(r"\btest_(?:eq|close)\(", check), "their messages print the right answer"
    silent = [ast.unparse(node) for node in ast.walk(ast.parse(check)) if isinstance(node, ast.Assert) and node.msg is None]
    assert not silent, f"an assert without a sentence: {silent}"
    assert any(re.search(rf"\b{name}\(", cell) for cell in one.solution), "the solution does not run the check"


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_an_exercise_is_laid_out_as_statement_answer_check_solution(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    for at, source in enumerate(sources):
        if source.startswith("```{exercise-start}") and "{exercise-end}" not in source:
            answer, end, check, solution = sources[at + 1 : at + 5]
            assert "# then: " in answer and end == "```{exercise-end}\n```", source
            assert re.match(r"#\| code-fold: true\n(?:#.*\n)*def check_", check), source
            assert solution.startswith("````{solution-start}"), source


def wrong_answers():
    """How many wrong answers are tried on each check: by `test_fail` in the chapters, in `WRONG` of the tests."""
    found = Counter()
    for path in PAGES:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "test_fail(check_" in source:
                tree = ast.parse(source)
                times = {id(inner): len(node.iter.elts) for node in ast.walk(tree) if isinstance(node, ast.For) for inner in ast.walk(node)}
                for node in ast.walk(tree):
                    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "test_fail" and isinstance(node.args[0], ast.Name):
                        found[node.args[0].id] += times.get(id(node), 1)
    for path in (ROOT / "tests" / "book").glob("test_*_chapter.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == "WRONG":
                assert isinstance(node.value, ast.List), f"{path.name}: WRONG is a list of (check, wrong answer)"
                found.update(entry.elts[0].value for entry in node.value.elts)
    return found


def test_at_least_two_wrong_answers_are_tried_on_every_check():
    tried = wrong_answers()
    few = {name: tried[name] for _, one in SOLVABLE if tried[name := one.call.partition("(")[0]] < 2}
    assert not few, few


def test_every_pages_skeletons_and_solutions_are_tried():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "book").glob("test_*.py"))
    pages = {path.relative_to(ROOT / "nbs").with_suffix("").as_posix() for path, _ in SOLVABLE}
    assert not [page for page in pages if f'@checked("{page}")' not in tests]


@named(EVERY)
def test_a_solution_says_in_words_why_it_is_one(path, one):
    head = re.search(rf"`+\{{solution-start\}} {one.label}\n.*?(?=`+\{{solution-end\}})", text(path), re.DOTALL)[0]
    prose = re.sub(r"^`{3,}.*$|^:class:.*$", "", head, flags=re.MULTILINE)
    assert len(prose.split()) >= 6, f"code without a sentence: {prose.strip()!r}"
