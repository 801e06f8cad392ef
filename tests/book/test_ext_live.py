"""Cells that run in the page: what each needs is found, an answer is judged by its check, files are what the list says."""

import ast
import hashlib
import importlib.util
import json
import re

import pytest
from book_helpers import ROOT, code, markdown
from deepnotes_ext.live import cell_of, cells_of, judge, names, native, packages
from deepnotes_ext.notebooks import convert_notebook

CHAPTERS = sorted((ROOT / "nbs").glob("*.ipynb"))


@pytest.fixture(scope="module")
def web():
    spec = importlib.util.spec_from_file_location("web_of_tools", ROOT / "tools" / "web.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "binds", "changes", "uses"),
    [
        ("x = f(y)", ["x"], [], ["f", "y"]),
        ("import numpy as np\nfrom a.b import c as d", ["d", "np"], [], []),
        ("trainer.fit(data)", [], ["trainer"], ["data", "trainer"]),
        ("x[0] = 1\nmodel.bias.data = y", [], ["model", "x"], ["model", "x", "y"]),
        ("def f(a):\n    b = g(a)\n    return [c for c in b]", ["f"], [], ["g"]),
        ("f = lambda z: z + w", ["f"], [], ["w"]),
        ("for i in range(3):\n    log.append(i)", ["i"], ["log"], ["i", "log", "range"]),
        ("print(x.sum())", [], [], ["print", "x"]),
        ("from z import *", ["*"], [], []),
    ],
)
def test_what_a_cell_binds_changes_and_uses(source, binds, changes, uses):
    assert names(source) == {"binds": binds, "changes": changes, "uses": uses}


def test_packages_are_those_of_the_cell_and_those_behind_the_library_s_data():
    assert packages("def f():\n    from scipy.stats import norm\nimport matplotlib.pyplot as plt") == ["matplotlib", "scipy"]
    assert packages("data = load_digits()") == ["scikit-learn"] and packages("x = np.ones(3)") == []


def test_compiled_code_and_other_programs_do_not_run_in_a_browser():
    assert native("from deepnotes.compiler import vector_math") and native("%timeit f()") and native("numba.njit(f)")
    assert not native("x = 1  # numba would be faster")


@pytest.mark.parametrize(
    ("answer", "solution", "call"),
    [
        ("mine = 0.0  # then: check_it(mine, 3)", "", "check_it(mine, 3)"),
        ("mine = 0.0", "check_it(1.0)", "check_it(mine)"),
        ("a, b = 0, 0", "check_it((1, 2))", "check_it((a, b))"),
        ("a, b = 0, 0", "check_it(1, 2)", "check_it(a, b)"),
        ("def mine(x): return x", "def right(x): return 2 * x\ncheck_it(right)", "check_it(mine)"),
        ("def f(x): return x\ndef g(x): return x", "check_it(F, G)", "check_it(f, g)"),
        ("def mine(x): return x", "check_it(right, 'uniform')", "check_it(mine, 'uniform')"),
        ("", "check_it(1)", "check_it(value)"),
        ("mine = 0", "print('open')", ""),
    ],
)
def test_the_check_is_called_on_what_the_answer_binds(answer, solution, call):
    checks = {"check_it": ast.parse("def check_it(value): assert value").body[0]}
    assert judge(answer, solution, [], checks) == call


def test_cells_of_an_exercise_are_told_apart_and_imports_stand_alone():
    notebook = {"cells": [
        code("#| hide\nimport numpy as np\nimport matplotlib.pyplot as plt\nsize = 3"),
        code("x = np.zeros(size)"),
        markdown("## Exercises\n\n```{exercise-start} ★ One\n:label: ex-1\n```\nWrite one."),
        code("mine = 0"),
        markdown("```{exercise-end}\n```"),
        code("#| code-fold: true\ndef check_one(value): assert value == 1"),
        markdown("```{solution-start} ex-1\n```"),
        code("check_one(1)"),
        markdown("```{solution-end}\n```"),
        code("after = 1"),
    ]}
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"c{number}"
    cells, exercises = cells_of(convert_notebook(notebook, pytest.fail))
    assert [(cell["id"], cell["kind"], cell.get("part")) for cell in cells] == [
        ("c0-0", "hidden", None), ("c0-1", "hidden", None), ("c0-2", "hidden", None), ("c1", "shown", None),
        ("c3", "shown", "answer"), ("c5", "shown", "check"), ("c7", "shown", "solution"), ("c9", "shown", None)]
    assert [cell["packages"] for cell in cells[:3]] == [[], ["matplotlib"], []]
    assert exercises == {"ex-1": {"title": "★ One", "answer": "c3", "checks": ["c5"], "solution": ["c7"], "call": "check_one(mine)"}}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_exercise_of_the_book_that_has_a_check_can_be_checked_in_the_page(path):
    notebook = convert_notebook(json.loads(path.read_text(encoding="utf-8")), lambda message: None)
    cells, exercises = cells_of(notebook)
    code_of = {cell["id"]: cell["code"] for cell in cells}
    for label, exercise in exercises.items():
        if exercise["checks"] or any("check_" in code_of[cell] for cell in exercise["solution"]):
            assert exercise["call"], label
            assert exercise["checks"], label


# -- the site ---------------------------------------------------------------------------------------------------------


def listed(**files):
    about = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    return {"version": "1.0", "carrier": "nothing", "info": {}, "mirror": about, "index": {}}


def test_files_are_taken_only_with_the_sums_of_the_list_and_are_kept(web, tmp_path):
    release, cache = tmp_path / "release", tmp_path / "cache"
    release.mkdir()
    (release / "a.wasm").write_bytes(b"right")
    files = listed(**{"a.wasm": b"right"})
    web.fetch(files, cache, str(release))
    assert (cache / "a.wasm").read_bytes() == b"right"
    (release / "a.wasm").unlink()
    web.fetch(files, cache, str(release))  # kept
    (cache / "a.wasm").write_bytes(b"spoiled")
    with pytest.raises(web.Missing, match=r"a\.wasm cannot be had.*DEEPNOTES_PYODIDE.*`make book` needs neither"):
        web.fetch(files, cache, str(release))
    (release / "a.wasm").write_bytes(b"other")
    with pytest.raises(web.Missing, match="sha256 sum differs"):
        web.fetch(files, cache, str(release))
    assert (cache / "a.wasm").read_bytes() == b"spoiled"  # what was refused is not kept


def test_the_list_is_whole(web, tmp_path):
    (wheel := tmp_path / "deepnotes-0.1.0-py3-none-any.whl").write_bytes(b"one")
    files = json.loads((ROOT / "web" / "files.json").read_text(encoding="utf-8"))
    every = files["mirror"] | files["index"]
    by_name = {about["name"].lower().replace("_", "-") for about in every.values() if "name" in about}
    assert {"numpy", "matplotlib", "scipy", "scikit-learn", "tqdm", "fastcore"} <= by_name
    assert all(re.fullmatch("[0-9a-f]{64}", about["sha256"]) and about["bytes"] > 0 for about in every.values())
    assert {need.lower().replace("_", "-") for about in every.values() for need in about.get("depends", [])} <= by_name
    packages = web.lock(files, wheel)[0]["packages"]
    sizes = {name: about["bytes"] for name, about in every.items()} | {packages["deepnotes"]["file_name"]: 500_000}
    first, drawn = web.weight(packages, sizes), web.weight(packages, sizes, "matplotlib")
    assert 12 < first < drawn < 30  # a first figure, fetched without any compression
    sizes[web.CODE] = 3.6e6  # packed
    assert web.weight(packages, sizes, "scikit-learn") < 30
    assert {"ipython", "comm", "jedi", "micropip"} <= by_name  # what JupyterLite's kernel asks for when it starts
    assert all(name.isidentifier() for about in every.values() for name in about.get("imports", []))  # as a program writes them
    assert "matplotlib" in packages["matplotlib-inline"]["depends"]  # the student edition's first cell imports it, and nothing else


def test_cells_that_are_heavy_in_a_browser_exist_and_what_makes_them_smaller_stands_in_them():
    notes = json.loads((ROOT / "web" / "cells.json").read_text(encoding="utf-8"))
    for page, cells in notes.items():
        sources = {cell["id"]: "".join(cell["source"]) for cell in json.loads((ROOT / f"{page}.ipynb").read_text("utf-8"))["cells"]}
        assert set(cells) <= set(sources), page
        for id, about in cells.items():
            assert set(about) <= {"seconds", "smaller"}
            for book, less in about.get("smaller", {}).items():
                assert sources[id].count(book) == 1, (page, id, book)
                ast.parse(sources[id].replace(book, less))


def test_launch_menus_begin_with_the_sites_own_notebooks_once(web):
    page = '<p></p><div class="dropdown dropdown-launch-buttons"><button></button> <ul class="dropdown-menu"><li>Binder</li></ul></div>'
    made = web.with_launch(page, "04_outputs.ipynb")
    assert re.search(r'<ul class="dropdown-menu">\s*<li><a href="../lite/notebooks/index.html\?path=04_outputs.ipynb"', made)
    assert made.endswith("<li>Binder</li></ul></div>") and web.with_launch(made, "04_outputs.ipynb") == made
    assert web.with_launch("<p>no menu</p>", "x.ipynb") == "<p>no menu</p>"


def test_the_library_s_wheel_lies_under_a_name_that_changes_with_it(web, tmp_path):
    wheel = tmp_path / "deepnotes-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"one")
    files = json.loads((ROOT / "web" / "files.json").read_text(encoding="utf-8"))
    lock, name = web.lock(files, wheel)
    digest = hashlib.sha256(b"one").hexdigest()
    assert name == f"deepnotes-0.1.0-0{digest[:8]}-py3-none-any.whl" == lock["packages"]["deepnotes"]["file_name"]
    assert lock["packages"]["deepnotes"]["sha256"] == digest and all(key == key.lower() for key in lock["packages"])


def test_a_page_gets_its_buttons_once_and_code_cannot_leave_its_script(web):
    data = {"cells": [{"id": "a", "kind": "shown", "code": ""}, {"id": "b", "kind": "hidden"},
                      {"id": "c", "kind": "shown", "why": "</script> no"}], "exercises": {}}
    about = web.about_cells(data, {"a": {"seconds": 40}})
    assert about["cells"] == {"a": {"seconds": 40}, "c": {"why": "</script> no"}}
    html = web.with_buttons("<body><p>x</p></body>", "nbs/library/look", about, ["deepnotes"])
    assert html.count("</script>") == 2 and 'src="../../live/page.mjs"' in html
    assert web.with_buttons(html, "nbs/library/look", about, ["deepnotes"]) == html
    assert json.loads(re.search(r'id="dn-live">(.*?)</script>', html)[1])["root"] == "../../"


def test_a_cell_that_starts_threads_says_that_a_browser_has_none():
    told = {source: cell_of(code(source) | {"id": "a"}).get("why", "") for source in (
        "results = simulate(3, train)", "from deepnotes.parallel import sweep\nsweep(run, {})", "def simulated(): pass")}
    assert ["threads" in why for why in told.values()] == [True, False, False]
