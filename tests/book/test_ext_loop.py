"""The map of the book under each chapter's title: the five boxes of the loop, with the chapter's own lit."""

import re

import pytest
from book_helpers import ROOT
from deepnotes_ext.loop import BOXES, LIT, WIDTH, draw_loop, place_loop

PAGE = "<html><body><article><h1>Layers<a>#</a></h1>\n<blockquote><p>What they are</p></blockquote>\n<p>A question.</p></article>"


def test_every_box_leads_to_a_chapter_and_every_chapter_has_boxes():
    for _, _, page, _ in BOXES:
        assert (ROOT / "nbs" / f"{page}.ipynb").is_file()
    chapters = {int(path.name[:2]) for path in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")}
    assert chapters <= set(LIT)
    assert {box for lit in LIT.values() for box in lit} == set(range(5))


@pytest.mark.parametrize("chapter", sorted(LIT))
def test_the_boxes_of_a_chapter_are_lit_and_told(chapter):
    drawing = draw_loop(LIT[chapter])
    links = re.findall(r'<a href="[^"]+"( class="dn-lit")? aria-label="([^"]+)">', drawing)
    assert tuple(i for i, (lit, _) in enumerate(links) if lit) == LIT[chapter]
    assert all(label.endswith(", this chapter") == bool(lit) for lit, label in links)
    if len(LIT[chapter]) == 1:
        assert f"this chapter: {BOXES[LIT[chapter][0]][3]}" in drawing


def test_words_fit_their_boxes():
    "At 10.5 pixels a bold letter of the headings' face is about 5.6 wide."
    assert all(5.6 * len(f"{mark} {word}") < WIDTH - 4 for mark, word, *_ in BOXES)


@pytest.mark.parametrize("name", ["nbs/06_layers.html", "nbs/06b_modules.html"])
def test_it_stands_under_the_title_and_its_promise_once(name):
    html = place_loop(PAGE, name)
    assert re.search(r'</h1>\n<blockquote><p>What they are</p></blockquote><nav class="dn-map".*?</nav>\n<p>A question', html)
    assert place_loop(html, name) == html


@pytest.mark.parametrize("name", ["nbs/index.html", "nbs/glossary.html", "nbs/library/doors.html", "search.html"])
def test_other_pages_have_none(name):
    assert place_loop(PAGE, name) == PAGE


def test_the_front_page_names_the_same_boxes():
    text = (ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8")
    shown = re.findall(r"<b>(?:<i>(\w+)</i> )?(\w+)</b><span>", text.partition('dn-loop\\"')[2].partition("</ol>")[0])
    assert [(mark, word.lower()) for mark, word in shown] == [(mark, word) for mark, word, *_ in BOXES]


def test_a_box_whose_chapter_is_not_in_the_book_leads_nowhere():
    drawn = draw_loop((1,), {"03_activations", "04_outputs"})
    assert re.findall(r'href="(\w+)\.html"', drawn) == ["03_activations", "04_outputs"] and drawn.count("<rect") == 5


def test_the_loop_stands_under_the_title_that_is_seen():
    paper = '<div id="jb-print-docs-body"><h1>Layers</h1></div>'
    html = place_loop(PAGE.replace("<article>", paper + "<article>"), "nbs/06_layers.html")
    assert paper in html and html.count('class="dn-map"') == 1 and html.index("<article>") < html.index('class="dn-map"')
