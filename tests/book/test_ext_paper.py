"""What is printed: which pages, in which order, where their links lead, and how the pages offer it."""

import re

import pytest
from book_helpers import ROOT  # noqa: F401  puts _ext on the path
from deepnotes_ext import paper

BASE = "https://book.example/notes/"
NAV = """<nav class="bd-links bd-docs-nav"><p><span class="caption-text">Foundations</span></p><ul>
<li><a class="reference internal" href="01_one.html">1. One</a></li>
<li><a class="reference internal" href="02_two.html">2. Two</a></li></ul>
<p><span class="caption-text">Look it up</span></p><ul><li><a class="reference internal" href="library/index.html">x</a></li></ul></nav>"""
MENU = '<ul class="dropdown-menu"><li>\n<button onclick="window.print()" title="Print to PDF">.pdf</button>\n</li></ul>'


def page(name, title, body):
    return (
        f"<html><head><title>{title} — Deep Notes</title>"
        f'<link rel="canonical" href="{BASE}nbs/{name}.html" />\n<link rel="stylesheet" href="../_static/book.css?v=1" />'
        f"</head><body>{NAV}{MENU}<article>{body}</article></body></html>"
    )


ONE = page(
    "01_one",
    "1. One",
    '<h1 id="one">One</h1><p><a href="#one">here</a> <a href="02_two.html#eq">there</a> <a href="02_two.html">two</a> '
    '<a href="api/tape.html#deepnotes.tape">far</a> <a href="https://else.where/#x">out</a></p>'
    '<img class="dn-light" src="../_images/a.svg" loading="lazy" alt="a > b"><img alt="" class="dn-dark" src="../_images/a.dark.svg">'
    '<svg><clipPath id="c"></clipPath><g clip-path="url(#c)"><use xlink:href="#c"/></g></svg>'
    '<script type="application/json">{"id=": "<a href=\\"#one\\">"}</script>',
)
TWO = page("02_two", "2. Two", '<h1 id="two">Two</h1><p id="eq">1</p>')


@pytest.fixture
def site(tmp_path):
    (tmp_path / "nbs").mkdir()
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "book.css").write_text("p { color: black }")
    (tmp_path / "nbs" / "01_one.html").write_text(ONE)
    (tmp_path / "nbs" / "02_two.html").write_text(TWO)
    return tmp_path


def hrefs(html):
    return re.findall(r'<a href="([^"]*)"', html)


def test_parts_and_pages_come_in_the_order_of_the_contents():
    assert paper.order(NAV) == [
        ("Foundations", ["nbs/01_one.html", "nbs/02_two.html"]),
        ("Look it up", ["nbs/library/index.html"]),
    ]


def test_a_page_alone_links_to_itself_and_to_the_published_book(site):
    html = paper.document({"nbs/01_one.html": ONE}, site, "1. One")
    assert hrefs(html.partition("<script type")[0]) == [
        "#p-01_one--one",
        f"{BASE}nbs/02_two.html#eq",
        f"{BASE}nbs/02_two.html",
        f"{BASE}nbs/api/tape.html#deepnotes.tape",
        "https://else.where/#x",
    ]


def test_in_the_whole_book_links_between_its_pages_stay_in_it(site):
    html = paper.document({"nbs/01_one.html": ONE, "nbs/02_two.html": TWO}, site, "Deep Notes")
    assert hrefs(html)[:3] == ["#p-01_one--one", "#p-02_two--eq", "#p-02_two"]
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) and {"p-01_one--one", "p-02_two--eq", "p-02_two"} <= set(ids)


def test_pictures_load_at_once_from_the_right_place_and_only_in_light(site):
    html = paper.document({"nbs/01_one.html": ONE}, site, "1. One")
    assert 'src="_images/a.svg"' in html and "lazy" not in html and "dn-dark" not in html
    assert "url(#p-01_one--c)" in html and 'xlink:href="#p-01_one--c"' in html and 'href="_static/book.css"' in html
    assert '{"id=": "<a href=\\"#one\\">"}' in html, "what a figure reads is not touched"


def test_the_contents_name_every_page_with_room_for_its_number():
    pages = {"nbs/01_one.html": ONE, "nbs/02_two.html": TWO}
    html = paper.contents([("Foundations", list(pages))], pages)
    rows = re.findall(r'<a href="#([^"]+)"><span>(.*?)</span><b>(.*?)</b>', html)
    assert rows == [("p-01_one", "1. One", "–"), ("p-02_two", "2. Two", "–")]


def test_the_menu_offers_what_was_printed_and_nothing_else(site):
    path = site / "nbs" / "01_one.html"
    assert paper.offer(ONE, path, site) == ONE
    (site / "pdf").mkdir()
    (site / "pdf" / "deep-notes.pdf").write_bytes(b"")
    whole = paper.offer(ONE, path, site)
    assert re.findall(r'<li class="dn-pdf"><a href="([^"]+)"', whole) == ["../pdf/deep-notes.pdf"]
    (site / "pdf" / "01_one.pdf").write_bytes(b"")
    both = paper.offer(whole, path, site)
    assert re.findall(r'<li class="dn-pdf"><a href="([^"]+)"', both) == ["../pdf/01_one.pdf", "../pdf/deep-notes.pdf"]
    assert paper.offer(both, path, site) == both and "window.print()" in both
    (site / "pdf" / "01_one.pdf").unlink()
    (site / "pdf" / "deep-notes.pdf").unlink()
    assert paper.offer(both, path, site) == ONE
