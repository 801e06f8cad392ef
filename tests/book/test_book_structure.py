"""The book's order, its chapters' shape, and what its pages need around them."""

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml
from book_helpers import ROOT
from deepnotes_ext.notebooks import split_directives

NBS = ROOT / "nbs"
CHAPTERS = sorted(NBS.rglob("*.ipynb"))  # and the pages of the library


def toc_entries(node):
    """Every file and glob of the contents, in order."""
    if isinstance(node, list):
        for item in node:
            yield from toc_entries(item)
    elif isinstance(node, dict):
        for key in ("root", "file", "glob"):
            if key in node:
                yield key, node[key]
        for key in ("parts", "chapters", "sections"):
            yield from toc_entries(node.get(key, []))


@pytest.fixture(scope="module")
def toc():
    return yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def first_lines(path):
    """Lines of the first cell of text, without blank ones."""
    text = next("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    return [line for line in text.splitlines() if line.strip()]


def test_every_page_is_in_the_contents_once_and_every_entry_exists(toc):
    entries = [value for key, value in toc_entries(toc) if key != "glob"]
    pages = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in NBS.rglob("*")
        if path.suffix in (".ipynb", ".md")
        and not any(part.startswith((".", "_")) for part in path.parts[len(ROOT.parts) :])
    }
    assert sorted(entries) == sorted(pages)


def test_chapters_stand_in_the_order_of_their_numbers(toc):
    numbered = [value for _, value in toc_entries(toc) if re.match(r"nbs/\d\d", value)]
    assert numbered == sorted(numbered)


def test_chapter_numbers_are_those_of_the_files(toc):
    parts = [part for part in toc["parts"] if part.get("numbered")]
    top = [chapter["file"] for part in parts for chapter in part["chapters"]]
    assert [int(re.match(r"nbs/(\d+)_", name)[1]) for name in top] == list(range(1, len(top) + 1))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.relative_to(NBS).as_posix())
def test_a_chapter_begins_with_its_title_and_promise(path):
    lines = first_lines(path)
    assert re.match(r"# \S", lines[0])
    if any(name == "default_exp" for cell in cells(path) for name, _ in directives(cell)):
        assert lines[1].startswith("> "), "nbdev makes the module's docstring of the `> ` line under the title"


def directives(cell):
    return split_directives("".join(cell["source"]))[0] if cell["cell_type"] == "code" else []


def test_titles_are_unique():
    titles = [first_lines(path)[0] for path in CHAPTERS]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.relative_to(NBS).as_posix())
def test_chapters_leave_the_page_to_the_book(path):
    """Nothing that the extension provides is set up by hand, so that figures look alike and work in both inks."""
    source = "\n".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "code")
    assert not re.search(r"figure_formats?|set_matplotlib_formats|^%matplotlib|plt\.style\.use", source, re.MULTILINE)


def test_bibliography_entries_are_complete():
    entries = re.findall(r"@(\w+)\{(\w+),(.*?)\n\}", (ROOT / "references.bib").read_text(encoding="utf-8"), re.DOTALL)
    keys = [key for _, key, _ in entries]
    assert len(keys) == len(set(keys))
    assert keys == sorted(keys)
    needs = {"article": "journal", "inproceedings": "booktitle", "book": "publisher", "mastersthesis": "school",
             "techreport": "institution"}
    for kind, key, body in entries:
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},?$", body, re.MULTILINE | re.DOTALL))
        assert {"author", "title", "year", needs.get(kind, "booktitle")} <= fields.keys(), key
        assert re.match(r"[a-z]+\d{4}$", key) and key.endswith(fields["year"]), key


def test_address_is_one_setting(config):
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    address = parser["DEFAULT"]["git_url"].strip()
    for name in ("_config.yml", "_toc.yml", "references.bib"):
        assert address not in (ROOT / name).read_text(encoding="utf-8"), f"{name} repeats git_url of settings.ini"
    for path in (ROOT / "_ext").rglob("*.py"):
        assert address not in path.read_text(encoding="utf-8")
    assert config["repository"]["url"] == "https://example.invalid"


def test_configuration_loads_nothing_from_other_hosts(config):
    extensions = config["sphinx"]["config"]["extensions"]
    assert not {"sphinx_thebe", "sphinx_comments", "sphinx.ext.intersphinx"} & set(extensions)
    assert "sphinx-mathjax-offline" in extensions


def test_binder_installs_this_library_and_what_its_notebooks_need_in_the_versions_of_the_pins():
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    library, *pins = [line for line in lines if line and not line.startswith("#")]
    assert library == ".[sklearn]"
    assert set(pins) <= set((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    names = {line.partition("==")[0] for line in pins}
    assert names == {"fastcore", "ipykernel", "jupyterlab", "llvmlite", "matplotlib", "numba", "numpy", "safetensors", "scikit-learn",
                     "scipy", "tqdm"}


@pytest.mark.parametrize("term", [
    "universal approximation", "zero_grad", "detach", "learning rate", "dead unit", "uncertainty", "temperature", "bias initialization",
    "overfitting", "scalar loss", "kink", "ReLU", "sigmoid", "tanh", "Jacobian", "multilayer perceptron", "maximum likelihood",
    "condition number", "gate", "attention", "probe", "early stopping", "gain", "nats"])
def test_the_glossary_has_what_newcomers_look_up(term):
    assert re.search(rf"^{re.escape(term)}\n  \S", (NBS / "glossary.md").read_text(encoding="utf-8"), re.M)


def test_the_glossary_points_at_sections_that_exist():
    text = (NBS / "glossary.md").read_text(encoding="utf-8")
    labels = {label for path in NBS.rglob("*.ipynb") for label in re.findall(r"\((sec-[\w-]+)\)=", path.read_text(encoding="utf-8"))}
    asked = set(re.findall(r"\{ref\}`([\w-]+)`", text))
    assert len(asked) > 10 and asked <= labels, asked - labels
    terms = re.findall(r"^(\S.*)\n  ", text, re.M)
    assert [t.lower() for t in terms] == sorted({t.lower() for t in terms})


def test_generated_pages_are_ignored_by_git():
    assert Path(NBS / "api" / ".gitignore").read_text(encoding="utf-8").split() == ["*.rst"]
