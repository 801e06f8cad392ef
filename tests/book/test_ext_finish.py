"""The last pass over the pages: code that fits, folds that say what is in them, pages that load what they use."""

import re
from pathlib import Path

import pydata_sphinx_theme
import pytest
from book_helpers import ROOT
from deepnotes_ext import finish, styles
from deepnotes_ext.code import COLUMNS, describe, name_folds, plain, wrap_code
from deepnotes_ext.status import summary
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

SOURCE = '''
def relu(x):
    """The positive part.

    Parameters
    ----------
    x : ndarray
        What comes in.
    """
    text = """two
lines"""
    return np.maximum(x, 0)  # ties go to zero
'''


def shown(source):
    return wrap_code(highlight(source, PythonLexer(), HtmlFormatter()))


def lines(html):
    return [plain(line).rstrip("\n") for line in re.findall(r'<span class="dn-line".*?\n</span>', html, re.DOTALL)]


def code_of(html):
    """What the copy button takes: everything but the summaries."""
    return plain(re.sub(r"<summary.*?</summary>", "", html, flags=re.DOTALL))


def test_every_line_is_a_block_with_its_indentation_and_nothing_is_lost():
    html = shown(SOURCE)
    assert code_of(html).strip("\n") == SOURCE.strip("\n")
    assert '<span class="dn-line" style="--i:4">    <span class="k">return' in html
    assert wrap_code(html) == html, "a second pass changes nothing"


def test_a_docstring_is_folded_to_its_first_line_and_another_text_is_not():
    html = shown(SOURCE)
    (fold,) = re.findall(r'<details class="dn-doc">.*?</details>', html, re.DOTALL)
    assert ">6 more lines of its docstring</summary>" in fold
    assert (
        "Parameters" in fold
        and "The positive part" not in fold
        and "lines" not in plain(fold.partition("</summary>")[2])
    )
    assert "<details" not in shown('def f():\n    """One.\n\n    Two.\n    """\n')


def test_a_comment_that_does_not_fit_moves_above_its_line():
    long = "    value = compute(one, two)" + " " * 40 + "# the reason why this has to be so, in a sentence"
    assert len(long) > COLUMNS
    assert lines(shown(long + "\nx = 1  # short\n")) == [
        "    # the reason why this has to be so, in a sentence",
        "    value = compute(one, two)",
        "x = 1  # short",
    ]
    alone = "#" + " a comment with a line of its own" * 4
    assert lines(shown(alone + "\n")) == [alone]
    assert len(lines(shown(f"text = '# no comment {'x' * 90}'\n"))) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import math\n\nimport numpy as np", "Imports, 2 lines"),
        ("class Dataset:\n    def f(self): pass", "<code>Dataset</code>, 2 lines"),
        ("def f(): pass\ndef g(): pass", "<code>f</code> and <code>g</code>, 2 lines"),
        (
            "def a(): pass\ndef b(): pass\ndef c(): pass\ndef d(): pass",
            "<code>a</code>, <code>b</code> and 2 more, 4 lines",
        ),
        ("def check_one(f): assert f\ndef check_two(f): assert f", "2 checks, 2 lines"),
        ("test_eq(f(1), 2)\ntest_close(f(2), 3)\nassert f(3) < 4", "3 checks"),
        ("test_fail(lambda: f(1))", "1 check"),
        ("fig, ax = plt.subplots()\nax.plot(x)", "How the figure is drawn, 2 lines"),
        ('glue("a", 1, display=False)', "Numbers for the text, 1 line"),
        ("%time f()\nx = 1\n", "<code>x</code>, 2 lines"),
        ("f(x)\n!ls < a\n", "Code, 2 lines"),
    ],
)
def test_a_fold_says_what_is_in_it(source, words):
    assert describe(source) == words


def test_the_summary_of_a_fold_is_its_name():
    page = (
        '<details class="admonition hide above-input">\n<summary aria-label="Toggle hidden content">\n'
        '<p class="collapsed admonition-title">Show the source</p>\n<p class="expanded admonition-title">Hide the source</p>\n'
        '</summary>\n<div class="cell_input docutils container">\n<div class="highlight"><pre>test_eq(1, 1)\n</pre></div></div></details>'
    )
    html = name_folds(page)
    assert "<summary>1 check</summary>" in html and "Toggle" not in html and "test_eq(1, 1)" in html


PAGE = """<html><head><title>x</title>
    <link href="../_static/a.css" rel="stylesheet" />
    <link rel="stylesheet" href="../_static/sub/b.css?v=1" />
    <script defer src="../_static/scripts/fontawesome.js"></script>
    <script src="../_static/documentation_options.js"></script>
    <script>let early = 1;</script>
    <script src="../_static/toggle.js"></script>
    <script>DOCUMENTATION_OPTIONS.pagename = 'x';</script>
    <script defer="defer" src="../_static/mathjax/tex-chtml.js"></script>
    <script src="../_static/widgets/dn-core.js"></script>
    <script src="../searchindex.js"></script>
  </head><body><h1>A <code>title</code></h1><blockquote><div><p>What this page promises</p></div></blockquote>
  <p>More.</p><img alt="a" src="../_images/a.svg" />BODY</body></html>"""


@pytest.fixture
def site(tmp_path):
    for name, text in {
        "_static/a.css": "a{}",
        "_static/sub/b.css": '@import "../c.css"; b{background:url(x.png)} @font-face{src:url(../fontawesome/x.woff2)}',
        "_static/c.css": "c{}",
        "_static/documentation_options.js": "const DOCUMENTATION_OPTIONS = {}",
        "_static/toggle.js": "early",
        "_static/widgets/dn-core.js": "core",
        "_images/a.svg": '<svg width="72pt" height="36pt"></svg>',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "nbs").mkdir()
    return tmp_path


def finished(site, body=""):
    return finish.finish(PAGE.replace("BODY", body), site / "nbs" / "x.html", site, "https://book.example/notes/")


def test_a_page_loads_what_it_uses_and_no_more(site):
    html = finished(site)
    for absent in ("fontawesome", "tex-chtml", "dn-core", "searchindex", "a.css", "toggle.js"):
        assert absent not in html
    assert "tex-chtml" in finished(site, '<span class="math notranslate">x</span>')
    (script,) = re.findall(r"_static/(book-\w+\.js)", finished(site, '<div class="dn-widget"></div>'))
    assert "core" in (site / "_static" / script).read_text()


def test_bundles_keep_the_order_that_scripts_and_styles_had(site):
    html = finished(site)
    (style,) = re.findall(r"_static/(book-\w+\.css)\?v=", html)
    text = (site / "_static" / style).read_text()
    assert re.search(r"a\{\}\s*c\{\}\s*b\{background:url\(sub/x\.png\)\}", text) and "font-face" not in text
    order = [html.index(part) for part in ("let early", "_static/book-", "DOCUMENTATION_OPTIONS.pagename")]
    assert order[0] < html.index('<script src="../_static/book-') < order[2]


def test_a_changed_part_reaches_pages_that_were_not_written_again(site):
    (style,) = re.findall(r"_static/(book-\w+\.css)", finished(site))
    (site / "_static" / "a.css").write_text("changed{}")
    finish.renew_bundles(site)
    assert "changed{}" in (site / "_static" / style).read_text()


def test_the_theme_s_rules_for_what_no_page_has_are_left_out(site):
    sheet = """@charset "UTF-8";.carousel,.btn:hover{a:1}.carousel>.inner7{b:2}#menu:not(.gone) a{c:3}p{d:"}"}
    @media print{.carousel{e:5}.btn{f:6}}@media screen{.carousel{g:7}}@font-face{h:8}.sd-1\\/2{i:9}.late .btn{j:10}/* .x{ */ul{k:11}"""
    (site / "_static" / "pydata-sphinx-theme.css").write_text(sheet)
    page, late = PAGE.replace("a.css", "pydata-sphinx-theme.css"), '<p class="late btn" id="menu">'
    (site / "nbs" / "x.html").write_text(page.replace("BODY", late))
    words = styles.known_words(site)
    html = finish.finish(page.replace("BODY", late), site / "nbs" / "x.html", site, "/", words)
    text = (site / "_static" / re.findall(r"_static/(book-\w+\.css)", html)[0]).read_text()
    assert '@charset "UTF-8";.btn:hover{a:1}#menu:not(.gone) a{c:3}p{d:"}"}@media print{.btn{f:6}}' in text
    assert "g:7" not in text and "h:8" in text and "i:9" in text and "j:10" in text and text.count("ul{k:11}") == 1
    (site / "_static" / "toggle.js").write_text("element.className = 'carousel'")  # a script makes one
    finish.renew_bundles(site, styles.known_words(site))
    text = next((site / "_static").glob("book-*.css")).read_text()
    assert ".carousel,.btn:hover{a:1}" in text and "@media screen{.carousel{g:7}}" in text and ".inner7" not in text


def test_the_theme_s_own_style_sheet_keeps_what_the_book_shows(tmp_path):
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static" / "styles" / "pydata-sphinx-theme.css"
    text = theme.read_text(encoding="utf-8")
    short = styles.lean(text, frozenset({"admonition", "bd-article", "bd-main"}))
    assert len(short) < len(text) / 2 and short.count("{") == short.count("}")
    assert ".bd-main" in short and "div.admonition" in short and ".carousel" not in short and ":root" in short
    assert styles.lean(short, frozenset({"admonition", "bd-article", "bd-main"})) == short  # its own output reads the same


def test_formulas_come_without_the_menu_where_mathjax_is_whole(site):
    formula = '<span class="math notranslate">x</span>'
    for name in ("startup", *finish.MATHJAX):
        (site / "_static" / "mathjax" / f"{name}.js").parent.mkdir(parents=True, exist_ok=True)
        (site / "_static" / "mathjax" / f"{name}.js").write_text(f"part({name!r})")
    finish.set_formulas(site)
    text = (site / "_static" / "mathjax" / finish.FORMULAS).read_text()
    assert re.findall(r"part\('(.*?)'\)", text) == ["startup", *finish.MATHJAX] and "preLoad(" in text
    assert "tex-chtml" not in finished(site, formula) and "_static/mathjax/formulas.js" in finished(site, formula)


def test_drawings_wait_and_keep_their_place(site):
    assert '<img loading="lazy" width="96" height="48" alt="a" src="../_images/a.svg" />' in finished(site)


def test_a_page_says_what_it_is_when_it_is_shared(site):
    html = finished(site)
    assert '<meta name="description" content="What this page promises" />' in html
    assert '<meta property="og:title" content="A title · Deep Notes" />' in html
    (card,) = re.findall(r'property="og:image" content="https://book.example/notes/(_static/cards/\w+\.png)"', html)
    assert (site / card).read_bytes().startswith(b"\x89PNG")


def test_a_finished_page_is_left_alone(site):
    html = finished(site)
    assert finish.finish(html, site / "nbs" / "x.html", site, "https://book.example/notes/") == html


def test_every_icon_of_the_theme_is_drawn():
    css = (ROOT / "_static" / "deepnotes.css").read_text()
    drawn = set(re.findall(r"\.fa-([\w-]+) \{ --dn-icon", css))
    assert {
        "bars",
        "list",
        "magnifying-glass",
        "chevron-down",
        "angle-left",
        "angle-right",
        "github",
        "download",
    } <= drawn
    assert {
        "rocket",
        "expand",
        "file",
        "file-pdf",
        "lightbulb",
        "sun",
        "moon",
        "circle-half-stroke",
        "arrow-up",
        "outdent",
    } <= drawn


def test_fonts_come_with_their_license():
    fonts = ROOT / "_static" / "fonts"
    css = (ROOT / "_static" / "deepnotes.css").read_text()
    named = set(re.findall(r'url\("fonts/([^"]+)"\)', css))
    assert named == {path.name for path in fonts.glob("*.woff2")}
    assert "SIL OPEN FONT LICENSE" in (fonts / "OFL.txt").read_text().upper()
    assert sum(path.stat().st_size for path in fonts.glob("*.woff2")) < 160_000


def test_the_faces_of_the_first_view_are_asked_for_with_the_style_sheet_and_what_stands_in_for_them_is_as_wide(tmp_path):
    (tmp_path / "_static" / "fonts").mkdir(parents=True)
    (tmp_path / "nbs").mkdir()
    for name in finish.FONTS:
        assert (ROOT / "_static" / name).is_file()
        (tmp_path / "_static" / name).write_bytes(b"")
    page = '<head><link rel="stylesheet" href="../_static/a.css" /></head>'
    html = finish.fetch_fonts(page, tmp_path / "nbs" / "a.html", tmp_path)
    asked = re.findall(r'<link rel="preload" as="font" type="font/woff2" crossorigin="" href="\.\./_static/([^"]+)"', html)
    assert asked == list(finish.FONTS) and html.index("preload") < html.index("stylesheet")
    css = (ROOT / "_static" / "deepnotes.css").read_text(encoding="utf-8")
    for face in ("Serif", "Sans", "Mono"):
        assert f'"Book {face}", "Stand-in {face}"' in css
        stand_ins = re.findall(rf'@font-face {{ font-family: "Stand-in {face}";.*', css)
        assert stand_ins and all("size-adjust" in one and "ascent-override" in one for one in stand_ins)


def test_the_logo_keeps_its_place_but_does_not_wait(tmp_path):
    (tmp_path / "logo.svg").write_text((ROOT / "_static" / "logo.svg").read_text(encoding="utf-8"), encoding="utf-8")
    html = finish.pictures('<body><img src="logo.svg" class="logo__image" alt="Home"/>', tmp_path / "a.html")
    assert '<img width="220" height="48" src="logo.svg"' in html and "lazy" not in html


def test_all_numbers_wait_behind_a_fold_each_under_its_heading():
    inner = '<section id="a-1">\n<h4>1 thread</h4><table></table><section id="a-2"><h5>x</h5><table></table></section></section>'
    page = (
        '<section id="benchmarks"><h1>B</h1><section id="goals"><h2>Goals</h2><table></table></section>'
        f'<section id="all-numbers">\n<h2>All numbers</h2><section id="a">\n<h3>a</h3>{inner}</section>'
        '<section id="b">\n<h3>b</h3><table></table></section></section></section><footer></footer>'
    )
    html = finish.fold_numbers(page)
    assert re.sub(r'<details class="dn-more"><summary>.*?</summary>|</details>', "", html) == page
    assert f'<h3>a</h3><details class="dn-more"><summary>2 tables of what was measured</summary>{inner}</details></section>' in html
    assert '<h3>b</h3><details class="dn-more"><summary>1 table of what was measured</summary><table></table></details></section>' in html
    assert finish.fold_numbers("<p>no such heading</p>") == "<p>no such heading</p>"


def test_the_status_says_in_two_sentences_what_its_table_holds():
    times = {"Layers": 61.0, "Outputs": 9.5}
    assert summary(times, ["2026-11-02", "2026-11-01"]) == (
        "2 pages ran in 1 min 10 s together, from 2026-11-01 to 2026-11-02. The longest is Layers with 61.0 s. "
    )
    assert summary({"Layers": 3.0}, ["2026-11-02"]) == "1 page ran in 3 s together, on 2026-11-02. The longest is Layers with 3.0 s. "
    assert summary({}, []) == ""
