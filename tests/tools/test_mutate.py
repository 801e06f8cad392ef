"""The tool that asks whether tests notice: what it changes is one place, and it can tell who noticed."""

import json
import random
import sys

import pytest
from book_helpers import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import mutate

TEXT = '''def f(x, n=3):
    "Words < are no code, 3 neither."
    if x <= 2 and not n == 1:
        raise ValueError(f"too small: {x + 1}")
    return (x - 0.5) * n if x is not None else True
'''


def test_each_change_is_of_one_place_and_none_of_words():
    found = {(line, old, new) for line, old, new, _ in mutate.changes(TEXT)}
    assert found == {(1, "3", "4"), (3, "<=", "<"), (3, "and", "or"), (3, "not", ""), (3, "==", "!="), (3, "2", "3"), (3, "1", "2"),
                     (5, "-", "+"), (5, "0.5", "1.5"), (5, ") *", ") /"), (5, "is not", "is"), (5, "True", "False")}
    for _, _, _, text in mutate.changes(TEXT):
        assert mutate.is_python(text) and text != TEXT and len(text.splitlines()) == len(TEXT.splitlines())


@pytest.mark.parametrize(("tests", "missed"), [("assert f(2) == 3 and f(3) == 4", 0), ("assert f(5)", 2)])
def test_what_no_test_notices_is_counted(tmp_path, monkeypatch, capsys, tests, missed):
    tree = tmp_path / "tree"
    (tree / "deepnotes").mkdir(parents=True)
    (tree / "tests").mkdir()
    (tree / "deepnotes" / "plus.py").write_text("def f(x):\n    return x + 1\n")
    (tree / "tests" / "test_plus.py").write_text(f"from deepnotes.plus import f\n\n\ndef test_f():\n    {tests}\n")
    equivalent = tmp_path / "equivalent.json"
    equivalent.write_text("[]")
    monkeypatch.setattr(mutate, "EQUIVALENT", equivalent)
    monkeypatch.setattr(mutate, "WATCHED", {"plus": ["test_plus.py"]})
    seen = mutate.map_of_tests(tree, ["plus"])
    assert [found for _, found in seen.values()] == [{("plus", 1), ("plus", 2)}]
    tried, left = mutate.watch(tree, ["plus"], seen, 9, random.Random(0))
    assert (tried, len(left)) == (2, missed)
    equivalent.write_text(json.dumps([{"module": "plus", "line": "return x + 1", "becomes": "2", "why": "as a test"}]))
    assert mutate.watch(tree, ["plus"], seen, 9, random.Random(0))[0] == 1


def test_a_package_stands_for_its_modules_and_each_has_tests():
    for package in mutate.BY_PACKAGE:
        modules = mutate.modules_of(package)
        assert f"{package}/__init__" not in modules and len(modules) > 5
        for module in modules:
            assert all(mutate.path_of(ROOT, name) for name in mutate.tests_of(module)), module
    assert mutate.modules_of("schedules") == ["schedules"]
