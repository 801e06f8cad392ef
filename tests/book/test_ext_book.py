"""Small books, built the way the real one is, and what their readers find on the pages."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from book_helpers import Book, code, markdown, notebook

UNITS = '''"""Hidden units and their derivatives"""
__all__ = ["relu", "Unit", "fast"]

import numpy as np

GAIN = 2.0


def relu(x, *, dtype=np.float32):
    """The positive part of each entry.

    Parameters
    ----------
    x : ndarray of shape (n, d), float32 or float64
        What comes in.

    Returns
    -------
    ndarray of shape (n, d)
        The larger of `x` and 0, see He et al. [1]_.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, Delving deep into rectifiers, ICCV 2015.

    Chapter: Hidden units, section What's `max` good for?
    """
    return np.maximum(x, 0)


class Unit:
    """A unit.

    References
    ----------
    .. [1] Another paper.

    Chapter: Hidden units
    """


class _Compiled:
    """Like numba's dispatchers: callable, and the function is kept as py_func."""

    def __init__(self, function):
        self.py_func = function
        self.__module__, self.__name__, self.__doc__ = function.__module__, function.__name__, function.__doc__

    def __call__(self, *args):
        return self.py_func(*args)


@_Compiled
def fast(x):
    """One sum.

    Chapter: Hidden units, section See it
    """
    return x.sum()
'''

INDEX = """# A small book

{cite:t}`goodfellow2016`, {numref}`fig-relu`, {eq}`rectifier`, {py:func}`deepnotes.units.relu`.

```{chapter-status}
```

```{claim-index}
```

```{exercise-index}
```
"""

GLOSSARY = """# Glossary

```{glossary}
dead ReLU
dead unit
  One that answers 0 to every example, a kink away from life.

kink
  Where a slope jumps.
```
"""

CHAPTER = notebook(
    markdown("# Hidden units\n\n> Hidden units and their derivatives\n\n## What's `max` good for?\n\nIt folds."),
    markdown("$$\nf(x) = \\max(0, x)\n$$ (rectifier)\n\nSee {eq}`rectifier` {cite:p}`goodfellow2016`."),
    code("#| default_exp units"),
    code("#| hide\nimport matplotlib.pyplot as plt\nimport numpy as np\nfrom myst_nb import glue"),
    code("#|export\ndef relu(x):\n    return np.maximum(x, 0)"),
    code("#| export\nclass Unit: pass\n\ndef fast(x): return x.sum()"),
    code("#| exporti\nGAIN = 2.0"),
    code("#| eval: false\nraise RuntimeError('eval false ran')"),
    code("#| echo: false\nprint('shown' + ' without source')"),
    code("#| output: false\nprint('hidden' + ' output')"),
    code("#| code-fold: true\nfolded = 1"),
    markdown("## See it"),
    code(
        "#| label: fig-relu\n#| fig-cap: The rectifier folds **space**.\n#| fig-alt: A line with a kink\n"
        "plt.plot([-1, 0, 1], relu([-1, 0, 1]), 'k')\nplt.xlabel('input');"
    ),
    code("glue('answer', 6 * 7, display=False)\ntiny = 4.2e-06\nglue('tiny', tiny, display=False)"),
    markdown(
        "It is {glue}`answer`. Off by {glue:text}`tiny:.0e`.\n\n```{exercise} ★ By hand\n:label: ex-hand\nCompute it.\n```\n\n"
        "````{solution} ex-hand\n:class: dropdown\nZero.\n````\n\n"
        "```{prf:theorem} Flat\n:label: thm-flat\nNo depth.\n```\n\n"
        "```{claim} Depth folds space\n:verdict: holds if\n:figure: fig-relu\nIt is {glue}`answer` times so.\n```\n\n"
        "::::{grid} 2\n:::{grid-item-card} One\n:::\n::::\n\n"
        "```{born-here}\n```"
    ),
)


class Links(HTMLParser):
    """Everything a page refers to, and everything on it that can be referred to."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value and tag != "base":  # of the page for what is not found
                self.targets.append(value)
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    book = Book(tmp_path_factory.mktemp("book"))
    book.module("units", UNITS)
    book.page("index", INDEX)
    book.page("01_units", CHAPTER)
    book.page("glossary", GLOSSARY)
    book.page("bibliography", "# Bibliography\n\n```{bibliography}\n```\n")
    book.done = book.build()
    assert book.done.returncode == 0, book.done.output
    return book


def test_cells_are_shown_as_their_directives_say(book):
    page = book.read("01_units")
    text = re.sub(r"<[^>]+>", "", page)
    assert "default_exp" not in text
    assert "#|" not in text
    assert "import matplotlib" not in text  # hide
    assert "eval false ran" in text and "Traceback" not in text  # eval: false is shown and not run
    assert "shown without source" in text and "print('shown" not in text  # echo: false
    assert "hidden output" not in text and "print('hidden" in text  # output: false
    assert re.search(r"<details class=\"[^\"]*hide[^>]*>(?:(?!</details>).)*folded", page, re.DOTALL)  # code-fold


def test_exported_cells_link_to_their_entries(book):
    page = book.read("01_units")
    lines = re.findall(r'<p class="deepnotes-exported">(.*?)</p>', page, re.DOTALL)
    assert [re.sub(r"<[^>]+>", "", line) for line in lines] == [
        "exported to deepnotes.units: relu",
        "exported to deepnotes.units: Unit, fast",
        "exported to deepnotes.units",
    ]
    assert 'href="api/units.html#deepnotes.units.relu"' in lines[0]
    born = re.search(r'<ul class="deepnotes-born[^"]*">(.*?)</ul>', page, re.DOTALL)[1]
    assert re.sub(r"<[^>]+>|\s+", "", born) == "deepnotes.units:relu,Unit,fast"


def test_reference_links_back_to_the_chapter(book):
    page = book.read("api/units")
    back = re.findall(r'<p class="deepnotes-chapter">Derived in <a [^>]*href="([^"]*)"[^>]*>(.*?)</a>', page, re.DOTALL)
    places = {re.sub(r"<[^>]+>", "", text): address for address, text in back}
    assert places == {
        "Hidden units: What’s max good for?": "../01_units.html#what-s-max-good-for",
        "Hidden units": "../01_units.html",
        "Hidden units: See it": "../01_units.html#see-it",
    }
    assert "Chapter:" not in re.sub(r"<[^>]+>", "", page)


def test_reference_shows_signatures_sources_and_compiled_functions(book):
    page = book.read("api/units")
    text = re.sub(r"<[^>]+>", "", page)
    assert "dtype=np.float32" in text
    assert re.search(r"fast\(x\)", text)
    assert "Bases: object" not in text
    assert page.count("viewcode-link") >= 3
    assert (book.html / "_modules" / "deepnotes" / "units.html").exists()


def test_figures_come_in_both_inks_with_text_number_and_caption(book):
    page = book.read("01_units")
    figure = re.search(r'<figure[^>]*id="fig-relu".*?</figure>', page, re.DOTALL)[0]
    images = re.findall(r'<img loading="lazy"[^>]* alt="A line with a kink" class="([^"]*)" src="([^"]*)"', figure)
    assert [("dn-dark" in classes, source.endswith(".dark.svg")) for classes, source in images] == [
        (False, False),
        (True, True),
    ]
    assert "Fig. 1.1" in figure and "<strong>space</strong>" in figure
    phone = re.findall(r'<picture><source media="\(max-width: 480px\)" srcset="([^"]*\.narrow\.svg)" width="355"', figure)
    assert len(phone) == 2 and phone[1].endswith(".dark.narrow.svg")
    small, small_dark = ((book.html / "nbs" / source).resolve().read_text(encoding="utf-8") for source in phone)
    assert "stroke: #000000" in small and "stroke: #000000" not in small_dark
    light, dark = ((book.html / "nbs" / source).resolve().read_text(encoding="utf-8") for _, source in images)
    assert "stroke: #000000" in light and "stroke: #000000" not in dark


def test_numbers_citations_and_glue(book):
    index = re.sub(r"<[^>]+>", "", book.read("index"))
    assert "Goodfellow et al." in index and "Fig. 1.1" in index and "(1.1)" in index and "relu()" in index
    chapter = re.sub(r"<[^>]+>", "", book.read("01_units"))
    assert "It is 42. Off by 4·10⁻⁶." in chapter
    assert 'class="pasted-text" title="computed by the book: tiny = 4.2e-06"' in book.read("01_units")
    assert "Exercise 1.1" in chapter and "Theorem 1.1" in chapter


def test_status_page_holds_run_time_and_versions(book):
    text = re.sub(r"<[^>]+>", " ", book.read("index"))
    assert re.search(r"Hidden units\s+\d+\.\d s\s+\d{4}-\d\d-\d\d", text)
    assert re.search(r"numpy\s+\d+\.\d+", text)


def first_hits(book, typed, count=3):
    "Pages and places in the order of Sphinx's search: main entries of the index by the share that was typed, then titles and texts."
    found = book.read_index()
    hits = [
        (round(100 * len(typed) / len(entry)), found["docnames"][page], place)
        for entry, places in found["indexentries"].items()
        if typed.lower() in entry and 2 * len(typed) >= len(entry)
        for page, place, main in places
        if main
    ]
    hits += [(16, found["docnames"][page], place or "") for title, places in found["alltitles"].items() if typed.lower() in title.lower()
             for page, place in places]
    return [(page, place) for _, page, place in sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:count]]


@pytest.mark.parametrize("word", ["dead ReLU", "dead unit", "kink"])
def test_a_term_of_the_glossary_is_the_first_hit_of_a_search(book, word):
    assert first_hits(book, word)[0] == ("nbs/glossary", f"term-{word.replace(' ', '-')}")


def test_status_page_shows_what_a_reader_meets_in_each_chapter(book):
    page = book.read("index")
    row = re.search(r"<tr[^>]*>(?:(?!</tr>).)*?01_units.*?</tr>", page, re.DOTALL)[0]
    words, cells, *_ = re.findall(r"<td>(?:<p>)?([^<]*)", row)[1:]
    assert "Open cells" in page and "Widest line" in page and "Experiments in pairs" in page
    assert int(words) > 10 and int(cells) > 3 and "none" in row


def test_claims_and_exercises_are_gathered(book):
    page = book.read("index")
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr.*?</tr>", page, re.DOTALL)]
    assert "Depth folds space Hidden units holds if Fig. 1.1".split() in rows
    assert "★ 1.1 By hand Hidden units solution".split() in rows
    assert 'href="01_units.html#claim-depth-folds-space"' in page
    assert "It is 42 times so." in re.sub(r"<[^>]+>", "", book.read("01_units"))


def test_buttons_follow_settings(book):
    from deepnotes_ext.settings import read_settings

    values = read_settings(book.root)
    page = book.read("01_units")
    repository = values["git_url"].removeprefix("https://github.com/")
    assert f'"https://mybinder.org/v2/gh/{repository}/student?urlpath=lab/tree/01_units.ipynb"' in page
    assert f'"https://colab.research.google.com/github/{repository}/blob/student/01_units.ipynb"' in page
    assert '"../student/01_units.ipynb"' in page  # what the download button offers
    assert (book.html / "student" / "01_units.ipynb").exists() and (book.html / "student" / "binder" / "requirements.txt").exists()
    assert f'href="{values["git_url"]}"' in page
    assert "example.invalid" not in page


def test_every_local_address_leads_somewhere(book):
    pages = {path: Links(path.read_text(encoding="utf-8")) for path in book.html.rglob("*.html")}
    pages = {path: page for path, page in pages.items() if "_static" not in path.parts}  # the theme's templates
    assert len(pages) > 6
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target == "#":
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            exists = goal.exists()
            if exists and parts.fragment and goal in pages:
                exists = unquote(parts.fragment) in pages[goal].ids
            if not exists:
                broken.append(f"{path.relative_to(book.html)} -> {target}")
    assert broken == []


def test_mathematics_is_drawn_by_the_site_itself(book):
    (script,) = re.findall(r'<script[^>]*src="([^"]*mathjax[^"]*)"', book.read("01_units"))
    file = (book.html / "nbs" / script.partition("?")[0]).resolve()
    assert file.is_relative_to(book.html.resolve()) and file.stat().st_size > 100_000
    assert list(file.parent.glob("output/chtml/fonts/*/*.woff"))


# -- the life of a book: what runs again, what is said when something is wrong ------------------------------------

STAMP = "import time\nprint('stamp', time.time_ns())"
UPPER = """__all__ = ["f"]
from .ground import VALUE


def f():
    '''Its value.'''
    return VALUE
"""
ASIDE = """__all__ = ["g"]


def g():
    '''G.

    Chapter: Words, section Numbers
    '''
"""


@pytest.mark.slow("builds a book five times, as its author changes it")
def test_a_book_through_its_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNOTES_JOBS", "2")
    book = Book(tmp_path)
    book.module("ground", "__all__ = []\nVALUE = 1\n")
    book.module("upper", UPPER)
    book.module("beside", "__all__ = []\n")
    book.module("leaving", "__all__ = []\n")
    uses_upper = code(f"from deepnotes.upper import f\nprint('value', f())\n{STAMP}")
    uses_beside = code(f"import deepnotes.beside\n{STAMP}")
    book.page("index", "# Changes")
    book.page("01_upper", notebook(markdown("# Upper"), uses_upper))
    book.page("02_beside", notebook(markdown("# Beside"), uses_beside))
    book.page("03_words", notebook(markdown("# Words\n\nNothing to run.")))

    def stamps():
        return [re.search(r"stamp (\d+)", book.read(page))[1] for page in ("01_upper", "02_beside")]

    done = book.build()
    assert done.returncode == 0, done.output
    assert done.output.count(": executed in") == 2  # a chapter without code starts no kernel
    assert done.output.count("Using cached notebook") == 2  # and none runs a second time when its page is read
    first = stamps()

    # A module changed: the chapter that imports it, through another module, runs again, and the other does not.
    # A docstring names a section that the book does not have: that fails the build.
    book.module("ground", "__all__ = []\nVALUE = 2\n")
    book.module("aside", ASIDE)
    done = book.build()
    assert "value 2" in book.read("01_upper")
    second = stamps()
    assert second[0] != first[0]
    assert second[1] == first[1]
    assert done.returncode != 0
    assert "chapter 'Words' has no section 'Numbers'" in done.output

    # Nothing changed: nothing runs, and the warning still fails the build.
    done = book.build()
    assert done.returncode != 0
    assert "chapter 'Words' has no section 'Numbers'" in done.output
    assert ": executed in" not in done.output

    # The section is written, and a module and its page are gone.
    book.page("03_words", notebook(markdown("# Words\n\n## Numbers\n\nNothing to run.")))
    (tmp_path / "deepnotes" / "leaving.py").unlink()
    done = book.build()
    assert done.returncode == 0, done.output
    assert '03_words.html#numbers"' in book.read("api/aside")
    assert not (tmp_path / "nbs" / "api" / "leaving.rst").exists()
    assert stamps() == second

    # A cell raises: chapter, cell and traceback, and nothing of Jupyter Book's own below them. A chapter that runs
    # beside it ends as well.
    waits = code(f"{uses_beside['source']}\nimport os\nwhile not os.path.exists('began'): time.sleep(0.01)")
    raises = code("#| hide\n# a comment\nratio = 1 / 0\nprint(ratio)")
    book.page("02_beside", notebook(markdown("# Beside"), waits, raises, code("after = 1")))
    long = code("import time\nopen('began', 'w').close()\ntime.sleep(60)\nopen('went on', 'w').close()")
    book.page("04_long", notebook(markdown("# Long"), long))
    done = book.build()
    assert done.returncode != 0
    message = done.output.partition("A chapter failed")[2]
    assert "nbs/02_beside.ipynb, cell 3: `ratio = 1 / 0`" in message
    assert "ZeroDivisionError: division by zero" in message
    assert "jupyter_book" not in message
    assert (tmp_path / "nbs" / "began").exists() and not (tmp_path / "nbs" / "went on").exists()


def test_mistakes_in_a_chapter_are_named(tmp_path):
    book = Book(tmp_path)
    book.module("units", "__all__ = []\n")
    book.page("index", "# Mistakes\n\n```{image} https://badge.invalid/x.svg\n:alt: a badge\n```\n")
    book.page(
        "01_units",
        notebook(
            markdown("# Units\n\n{py:func}`deepnotes.units.nothing` and {eq}`nowhere`."),
            markdown("```{claim} Never\n:verdict: perhaps\n```"),
            markdown("```{exercise} Twice ★\n:label: ex-behind\nHow?\n```\n\n```{exercise-index}\n```"),
            code("#| default_exp units"),
            code("#| exprot\nx = 1"),
            code("#| export\ndef unknown(): pass"),
            code("import matplotlib.pyplot as plt\nplt.plot([1, 2]);"),
        ),
    )
    done = book.build()
    assert done.returncode != 0
    for message in (
        "cell 5 (`x = 1`): unknown directive `#| exprot`",
        "no entry for deepnotes.units.unknown: run nbdev_export",
        "cell 7 (`import matplotlib.pyplot as plt`): a figure has no text",
        "holds, holds if",
        "exercise ex-behind is called 'Twice ★': write its stars first",
        "exercise ex-behind has no solution",
        "deepnotes.units.nothing",
        "nowhere",
        "loads https://badge.invalid/x.svg",
    ):
        assert message in done.output, f"{message!r} is not in\n{done.output}"
