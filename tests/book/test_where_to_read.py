"""An error's last sentence says where to read more: the chapter or page that it names exists, and the section in it."""

import ast
import importlib
import json
import re

import pytest
from conftest import ROOT

import deepnotes

LIBRARY = ROOT / "deepnotes"
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__main__.py")
NAMED = re.compile(r"(?:[Ss]ee|\()\s*(?:the )?(?:chapter|page) (?P<quote>'?)(?P<rest>[A-Z].*)", re.S)
SECTION = re.compile(r",? section (?P<quote>['\"]?)(?P<rest>.*)", re.S)


def headings(path):
    "Title of a page, and all headings in it, without the marks of code and mathematics."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = [re.sub(r"[`$*]", "", line) for line in re.findall(r"^#+ (.+)$", text, re.M)]
    return found[0], found[1:]


PAGES = dict(headings(path) for path in sorted((ROOT / "nbs").rglob("*.ipynb")))


def told(node, module):
    "The text of a string, with names of constants and calls of `see` put in; what is known only later is a brace."
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += part.value
        elif isinstance(part.value, ast.Name) and isinstance(getattr(module, part.value.id, None), str):
            text += getattr(module, part.value.id)
        elif isinstance(part.value, ast.Call) and ast.unparse(part.value.func) == "see":
            text += module.see(*(argument.value for argument in part.value.args))
        else:
            text += "{}"
    return text


def begins(text, names):
    "The longest of the names with which a text begins, as words of their own."
    found = [name for name in names if re.match(re.escape(name) + r"(?!\w)", text)]
    return max(found, key=len, default=None)


def complaint(text):
    "Why a text names no place of the book, or None."
    match = NAMED.search(text)
    if match is None or "{}" in match["rest"][:2]:
        return None
    title = begins(match["rest"], PAGES)
    if title is None:
        return f"no page is called {match['rest'][:50]!r}"
    match = SECTION.match(match["rest"][len(title):].lstrip("'"))
    if match is None or match["rest"].startswith("{}"):
        return None
    rest = re.sub(r"[`$*]", "", match["rest"])
    return None if begins(rest, PAGES[title]) else f"{title} has no section {rest[:50]!r}"


def strings(tree):
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part is not node}
    return [node for node in ast.walk(tree) if id(node) not in inside
            and (isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(LIBRARY).as_posix())
def test_every_place_that_a_message_names_exists(path):
    name = ".".join(("deepnotes", *path.relative_to(LIBRARY).with_suffix("").parts)).removesuffix(".__init__")
    try:
        module = importlib.import_module(name)
    except ImportError as error:                                            # a module for a package that is not here
        pytest.skip(str(error))
    wrong = {node.lineno: why for node in strings(ast.parse(path.read_text(encoding="utf-8"))) if (why := complaint(told(node, module)))}
    assert not wrong


def test_calls_of_see_name_places_that_exist():
    places = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "see":
                if all(isinstance(argument, ast.Constant) for argument in node.args):
                    places.add(tuple(argument.value for argument in node.args))
    wrong = [place for place in places if place[0] not in PAGES or len(place) > 1 and place[1] not in PAGES[place[0]]]
    assert len(places) > 5 and not wrong


def test_the_test_would_see_a_wrong_place():
    assert complaint("f: no. See the chapter Output units.") is None
    assert "no page" in complaint("f: no. See the chapter Exit units.")
    assert "no section" in complaint("f: no. See the chapter Output units, section Dropping out.")
    assert deepnotes.loader._PAGE in told(ast.parse('f"x. {_PAGE}."').body[0].value, deepnotes.loader)
