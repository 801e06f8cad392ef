"""The parts of the book's extension that need no build."""

import json
import sys
import threading
import time
from pathlib import Path

import pytest
from book_helpers import ROOT, code, markdown, notebook
from deepnotes_ext import execution
from deepnotes_ext.ahead import Ended, Turns, timed_cells
from deepnotes_ext.api import CHAPTER, plain
from deepnotes_ext.execution import chapter_key, describe_failure, imports, library_modules
from deepnotes_ext.figures import dark_svg
from deepnotes_ext.formulas import fault
from deepnotes_ext.notebooks import convert_notebook, exported_names, first_line, split_directives
from deepnotes_ext.offline import remote_loads
from deepnotes_ext.settings import read_settings
from sphinx.errors import ConfigError


def converted(*sources):
    "The cells of a notebook after conversion, and what was warned about."
    said = []
    result = convert_notebook(notebook(*map(code, sources)), said.append)
    return result["cells"], said


# -- directives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "tags"),
    [
        ("#| default_exp autograd", ["remove-cell"]),
        ("#| hide", ["remove-cell"]),
        ("#|hide", ["remove-cell"]),
        ("# | hide", ["remove-cell"]),
        ("#| hide:", ["remove-cell"]),
        ("#| include: false", ["remove-cell"]),
        ("#| include: true", []),
        ("#| echo: false", ["remove-input"]),
        ("#| echo: true", []),
        ("#|echo:false", ["remove-input"]),
        ("#| echo false", ["remove-input"]),
        ("#| output: false", ["remove-output"]),
        ("#| code-fold: true", ["hide-input"]),
        ("#| code-fold: show", ["hide-input"]),
        ("#| code-fold: false", []),
        ("#| eval: false", ["skip-execution"]),
        ("#| eval: true", []),
        ("#| notest", []),
    ],
)
def test_directive_becomes_tag(line, tags):
    (cell,), said = converted(f"{line}\nx = 1")
    assert cell["metadata"].get("tags", []) == tags
    assert cell["source"] == "x = 1"
    assert said == []


def test_several_directives_add_up_and_keep_the_cells_own_tags():
    cell = code("#| export\n#| code-fold: true\n\ndef f(): pass", tags=["wide"])
    result = convert_notebook(notebook(code("#| default_exp layers"), cell), pytest.fail)
    assert result["cells"][1]["metadata"]["tags"] == ["wide", "exported", "hide-input"]


def test_export_names_the_module_and_what_has_an_entry_there():
    cells, said = converted(
        "#| default_exp layers",
        "#|export\nimport numpy as np\nLIMIT = 3\ndef _helper(): pass\ndef f(): pass\nclass Linear: pass",
        "#| exporti\ndef g(): pass",
        "#| export kernels\ndef h(): pass",
    )
    assert [cell["metadata"].get("deepnotes") for cell in cells] == [
        None,
        {"module": "deepnotes.layers", "names": ["f", "Linear"]},
        {"module": "deepnotes.layers", "names": []},
        {"module": "deepnotes.kernels", "names": ["h"]},
    ]
    assert said == []


def test_the_front_door_is_the_package_itself():
    cells, _ = converted("#| default_exp __init__", "#| export\ndef backend(): pass")
    assert cells[1]["metadata"]["deepnotes"] == {"module": "deepnotes", "names": []}


def test_export_before_default_exp_is_reported():
    _, (message,) = converted("#| export\ndef f(): pass")
    assert "cell 1 (`def f(): pass`)" in message
    assert "default_exp" in message


def test_unknown_directive_is_reported_with_its_cell():
    _, (message,) = converted("x = 1", "#| exprot\n# a comment\ny = 2")
    assert "cell 2 (`y = 2`)" in message
    assert "`#| exprot`" in message


def test_directive_below_code_is_reported_and_stays():
    (cell,), (message,) = converted("x = 1\n#| hide")
    assert "stands below code" in message
    assert cell["source"] == "x = 1\n#| hide"


def test_table_in_a_comment_is_not_a_directive():
    (cell,), said = converted("x = 1\n# | a | b |\n# | 1 | 2 |")
    assert said == []
    assert "| a | b |" in cell["source"]


def test_figure_directives_become_mystnb_metadata():
    (cell,), _ = converted("#| label: fig-xor\n#| fig-cap: 'Four points: XOR.'\n#| fig-alt: Four points\nplot()")
    assert cell["metadata"]["mystnb"] == {
        "figure": {"name": "fig-xor", "caption": "Four points: XOR."},
        "image": {"alt": "Four points"},
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"Waves $\sin x$: two", r"Waves $\sin x$: two"),
        (r'"Waves $\\sin x$: two"', r"Waves $\sin x$: two"),
        (r"'Waves $\sin x$: two'", r"Waves $\sin x$: two"),
        ("'It''s one'", "It's one"),
        ('"Slow", they said', '"Slow", they said'),
        ('"1.0"', "1.0"),
    ],
)
def test_options_in_quotes_are_yaml(written, read):
    (cell,), said = converted(f"#| fig-cap: {written}\nplot()")
    assert cell["metadata"]["mystnb"]["figure"]["caption"] == read
    assert said == []


@pytest.mark.parametrize(
    ("tex", "why"),
    [
        (r"\\sin x", "doubled backslash before sin"),
        (r"2/\\lambda_{\\max}", "doubled backslash before lambda"),
        (r"h^{\star", "braces"),
        (r"h}{", "braces"),
        (r"\sin x^{2}", ""),
        (r"\{1, 2\}", ""),
        ("\\begin{aligned} a \\\\ b \\end{aligned}", ""),
        (r"\begin{cases} 0 \\x \end{cases}", ""),
    ],
)
def test_formulas_that_no_page_can_set_are_found(tex, why):
    assert why in fault(tex) and bool(why) == bool(fault(tex))


def test_a_quoted_option_that_is_no_yaml_is_reported():
    _, (message,) = converted('#| fig-cap: "$\\sin x$"\nplot()')
    assert "cell 1 (`plot()`): `#| fig-cap`" in message
    assert "written twice" in message


def test_cell_without_directives_is_untouched():
    before = notebook(markdown("#| hide is only text here"), code("\n%%time\nx = 1  #| hide"))
    after = convert_notebook(json.loads(json.dumps(before)), pytest.fail)
    assert after == before


@pytest.mark.parametrize(
    "source",
    ["#| hide\nx", "#|export\n\n#| echo: false\nx\ny", "# comment\n#| hide\nx", "#| hide", "", "x\n#| hide"],
)
def test_directives_are_those_that_nbdev_reads(source):
    process = pytest.importorskip("nbdev.process")
    cell = process.NBProcessor(nb=_nbdev_notebook(source)).nb.cells[0]
    assert {name for name, _ in split_directives(source)[0]} == {name.rstrip(":") for name in cell.directives_}


def _nbdev_notebook(source):
    from execnb.nbio import mk_cell, new_nb

    return new_nb([mk_cell(source)])


def test_exported_names_of_ipython_syntax_are_none():
    assert exported_names("%time f()") == []


def test_first_line_skips_comments():
    assert first_line("\n# why\n  x = 1\ny") == "x = 1"
    assert first_line("# only this") == "# only this"
    assert first_line("") == "(empty)"


# -- what a chapter depends on ------------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "deepnotes"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "kernels": "import numpy",
        "autograd": "from deepnotes.kernels import launch",
        "layers": "from . import autograd\nfrom .outputs import loss",
        "outputs": "def f():\n    import deepnotes.autograd",
        "datasets": "import gzip",
    }.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import numpy as np", set()),
        ("from deepnotes.kernels import f", {"kernels"}),
        ("import deepnotes.autograd as ag", {"autograd", "kernels"}),
        ("from deepnotes import layers", {"layers", "autograd", "kernels", "outputs"}),
        ("%matplotlib inline\ndef f():\n    from deepnotes.outputs import loss", {"outputs", "autograd", "kernels"}),
        ("import deepnotes as dn", {"kernels", "autograd", "layers", "outputs", "datasets"}),
        ("from deepnotes import Tensor", {"kernels", "autograd", "layers", "outputs", "datasets"}),
        ("deepnotes = = 1", {"kernels", "autograd", "layers", "outputs", "datasets"}),
    ],
)
def test_modules_a_chapter_depends_on(library, source, expected):
    found = {path.stem for path in library_modules(library, imports(source, "deepnotes"))}
    assert found - {"__init__"} == expected
    assert ("__init__" in found) == bool(expected)


def test_modules_of_packages_that_a_chapter_depends_on(library):
    for name, text in {
        "training/__init__": "from .trainer import Trainer",
        "training/trainer": "from ..layers import Module\nfrom . import steps",
        "training/steps": "from deepnotes.kernels import launch",
        "training/history": "",
    }.items():
        (library / name).parent.mkdir(exist_ok=True)
        (library / f"{name}.py").write_text(text)

    def depends(source):
        found = library_modules(library, imports(source, "deepnotes"))
        return {path.relative_to(library).with_suffix("").as_posix() for path in found} - {"__init__"}

    assert depends("from deepnotes.training.history import History") == {
        "training/__init__",
        "training/trainer",
        "training/steps",
        "training/history",
        "layers",
        "autograd",
        "outputs",
        "kernels",
    }  # its package runs first
    assert depends("from deepnotes import training") >= {"training/history", "training/steps", "kernels"}
    assert depends("import deepnotes.datasets") == {"datasets"}


def test_key_changes_with_what_is_imported_and_with_nothing_else(library):
    chapter = notebook(code("from deepnotes.autograd import Tensor"))
    before = chapter_key(chapter, library)
    (library / "datasets.py").write_text("import bz2")
    assert chapter_key(chapter, library) == before
    (library / "kernels.py").write_text("import numpy as np")
    assert chapter_key(chapter, library) != before


def test_key_changes_with_the_files_that_a_chapter_says_it_reads(library):
    folder = library.parent / "measured"
    folder.mkdir()
    (folder / "a.json").write_text("1")
    reads = notebook(code("# reads: measured/*.json\nimport json"))
    before, other = chapter_key(reads, library), chapter_key(notebook(code("import json")), library)
    (folder / "b.json").write_text("2")
    assert chapter_key(reads, library) != before
    assert chapter_key(notebook(code("import json")), library) == other


def test_key_changes_with_the_backend(library, monkeypatch):
    chapter = notebook(code("import deepnotes"))
    monkeypatch.delenv("DEEPNOTES_BACKEND", raising=False)
    before = chapter_key(chapter, library)
    monkeypatch.setenv("DEEPNOTES_BACKEND", "numpy")
    assert chapter_key(chapter, library) != before


@pytest.mark.parametrize("file", ["STYLE", "NARROW"])
def test_key_changes_with_how_figures_are_drawn(library, monkeypatch, tmp_path, file):
    chapter = notebook(code("import deepnotes"))
    before = chapter_key(chapter, library)
    (tmp_path / "other").write_text("WIDTH = 3")
    monkeypatch.setattr(execution, file, tmp_path / "other")
    assert chapter_key(chapter, library) != before


# -- messages -----------------------------------------------------------------------------------------------------

RAISED = """Traceback (most recent call last):
  File "client.py", line 1, in execute
nbclient.exceptions.CellExecutionError: An error occurred while executing the following cell:
------------------
# why
y = 1 / x
------------------


\x1b[31m---------------------------------------------------------------------------\x1b[39m
ZeroDivisionError                         Traceback (most recent call last)
ZeroDivisionError: division by zero
"""


def test_failure_names_chapter_cell_and_traceback():
    cells = [(2, "x = 0"), (5, "# why\ny = 1 / x\n")]
    message = describe_failure("nbs/04_outputs.ipynb", cells, RAISED)
    assert message.startswith("nbs/04_outputs.ipynb, cell 5: `y = 1 / x`\n")
    assert message.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "client.py" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("lines", [3, 20])
def test_timeout_names_chapter_cell_and_limit(lines):
    from nbclient.exceptions import CellTimeoutError
    from nbformat.v4 import new_code_cell

    source = "\n".join(f"step_{number}()" for number in range(lines))
    error = CellTimeoutError.error_from_timeout_and_cell("Cell execution timed out", 7, new_code_cell(source))
    cells = [(1, "x"), (9, source)]
    message = describe_failure("nbs/08_training.ipynb", cells, f"Traceback\nCellTimeoutError: {error}")
    assert message.startswith("nbs/08_training.ipynb, cell 9: `step_0()`\n")
    assert "7 seconds" in message


# -- figures, addresses, settings ---------------------------------------------------------------------------------


def test_dark_figure_exchanges_inks_and_keeps_data_colors():
    svg = '<svg width="1"><path style="fill: #222222; stroke: #D55E00"/><path fill="black"/><path stroke="#FFF"/></svg>'
    assert dark_svg(svg) == (
        '<svg fill="#e6e6e6" color="#e6e6e6" width="1"><path style="fill: #e6e6e6; stroke: #D55E00"/>'
        '<path fill="#e6e6e6"/><path stroke="#14181e"/></svg>'
    )


def test_dark_figure_respects_the_drawings_own_default():
    assert dark_svg('<svg fill="none"><path/></svg>') == '<svg fill="none"><path/></svg>'


def _luminance(color):
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one, two):
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ink", ["#000000", "#222222", "#666666"])
def test_text_in_figures_has_the_contrast_that_wcag_asks_for(ink):
    from deepnotes_ext.figures import DARK

    assert _contrast(ink, "#ffffff") >= 4.5
    assert _contrast(DARK[ink], DARK["#ffffff"]) >= 4.5


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<script src="//cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="http://fonts.example/x.css">',
        '<link rel="preload" as="font" href="https://fonts.example/x.woff2">',
        '<img src="https://badge.example/x.svg">',
        '<img srcset="a.png 1x, https://img.example/b.png 2x">',
        '<iframe src="https://video.example/1"></iframe>',
        '<p style="background: url(https://img.example/x.png)">',
        "<style>@import 'https://fonts.example/x.css';</style>",
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(page):
    assert len(remote_loads(page)) == 1


@pytest.mark.parametrize(
    "page",
    [
        '<a href="https://example.org">a link</a>',
        '<link rel="canonical" href="https://example.org/x.html">',
        '<script src="../_static/x.js"></script>',
        "<pre>@import 'https://fonts.example/x.css'</pre>",
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    ],
)
def test_links_and_names_are_no_loads(page):
    assert remote_loads(page) == []


def test_style_sheets_are_searched():
    assert remote_loads('@font-face{src:url("//fonts.example/x.woff")}', css=True) == ["//fonts.example/x.woff"]
    assert remote_loads("a{background:url(data:image/png;base64,x)}", css=True) == []


def test_settings_say_what_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="settings.ini is missing"):
        read_settings(tmp_path)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nversion = 1\nbranch = main\nlib_path = a\nnbs_path = b\n")
    with pytest.raises(ConfigError, match="does not set git_url"):
        read_settings(tmp_path)


def test_settings_of_this_repository():
    values = read_settings(ROOT)
    assert values["git_url"].startswith("https://")
    assert not values["git_url"].endswith("/")


def test_chapter_line_is_understood():
    match = CHAPTER.match("    Chapter: Output units, section Why does everyone subtract the maximum?")
    assert (match["title"], match["section"]) == ("Output units", "Why does everyone subtract the maximum?")
    match = CHAPTER.match("Chapter: Output units, section Gaussian, Bernoulli, categorical.")
    assert match["section"] == "Gaussian, Bernoulli, categorical"
    assert CHAPTER.match("Chapter: Output units")["section"] is None
    assert CHAPTER.match("See the chapter: Output units") is None


def test_headings_are_compared_without_markup():
    assert plain("What’s  `max` good for – really?") == plain("What's max good for -- really?")


def test_extension_imports_nothing_from_the_library():
    assert not any(line.startswith(("import deepnotes\n", "from deepnotes ")) for line in _extension_lines())
    assert Path(sys.modules["deepnotes_ext"].__file__).parent == ROOT / "_ext" / "deepnotes_ext"


def _extension_lines():
    for path in (ROOT / "_ext" / "deepnotes_ext").glob("*.py"):
        yield from path.read_text(encoding="utf-8").splitlines(keepends=True)


# -- chapters run several at a time -------------------------------------------------------------------------------


def test_cells_that_read_the_clock_are_found_and_what_the_library_measures_is_not():
    cells, _ = converted(
        "import numpy as np\nfrom time import perf_counter",
        "#| default_exp units\n#| hide",
        "#| export\nimport time\n\ndef tuned(): return time.perf_counter()",
        "tuned()",
        "def best(f):\n    began = perf_counter()\n    f()\n    return perf_counter() - began",
        "twice = lambda f: 2 * best(f)\nlong = [1] * 100",
        "spent = twice(lambda: sum(long))",
        "print(f'{spent:.0%}', len(long), 'the best of three')",
        "%timeit sum(long)",
        "print(max(long))",
    )
    # the print of a result names `best` in its text: a cell too many runs alone, which is no harm
    assert timed_cells(cells) == {0, 4, 5, 6, 7, 8}


def test_a_measurement_runs_alone_and_before_those_that_came_later():
    turns, order, inside = Turns(), [], threading.Event()

    def visit(name, alone):
        turns.enter(alone)
        order.append(name)
        turns.leave(alone)

    def first():
        turns.enter(False)
        inside.set()
        while turns._waiting < 1 or later.ident is None:
            time.sleep(0.001)
        order.append("first")
        turns.leave(False)

    one = threading.Thread(target=first)
    measurement = threading.Thread(target=visit, args=("measurement", True))
    later = threading.Thread(target=visit, args=("later", False))
    one.start()
    assert inside.wait(10)
    turns.enter(False)  # two ordinary cells at a time
    turns.leave(False)
    measurement.start()
    while not turns._waiting:
        time.sleep(0.001)
    later.start()
    for thread in (one, measurement, later):
        thread.join(10)
    assert order == ["first", "measurement", "later"]
    turns.end()
    for alone in (False, True):
        with pytest.raises(Ended):
            turns.enter(alone)


def test_bibliography_is_labeled_by_author_and_year():
    from deepnotes_ext.bibliography import AuthorYearLabels
    from pybtex.database import parse_string

    book = parse_string(
        "@book{a, author={Glorot, Xavier and Bengio, Yoshua}, year=2010}\n@book{b, author={de la Cruz, Ana}, year=2001}\n"
        "@book{c, author={He, K and Zhang, X and Ren, S}, year=2015}\n@book{d, author={He, K and Sun, J and Ren, S}, year=2015}",
        "bibtex",
    )
    labels = list(AuthorYearLabels().format_labels(list(book.entries.values())))
    assert labels == ["Glorot and Bengio 2010", "de la Cruz 2001", "He et al. 2015a", "He et al. 2015b"]
