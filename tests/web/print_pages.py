"""`make pdf` on the built book: one chapter, printed by Chromium, read again. `make test-web` runs this."""

import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "_ext"))
pytest.importorskip("playwright.sync_api", reason="needs the extra `web`: make test-web")
pypdf = pytest.importorskip("pypdf", reason="needs the extra `web`: make test-web")
from deepnotes_ext import paper  # noqa: E402

HTML = Path(os.environ.get("DEEPNOTES_HTML") or ROOT / "_build" / "html")
PAGE = "nbs/04_outputs.html"


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    html = (HTML / PAGE).read_text("utf-8")
    path = tmp_path_factory.mktemp("paper") / "chapter.pdf"
    with paper.Printer(HTML) as printer:
        printer.to_pdf(paper.document({PAGE: html}, HTML, "Chapter"), path, "Deep Notes · Chapter")
    return html, path, pypdf.PdfReader(path)


def test_the_whole_book_has_contents_with_the_numbers_of_its_pages(tmp_path):
    pages = {name: (HTML / name).read_text("utf-8") for name in ("nbs/notation.html", "nbs/glossary.html")}
    front = paper.contents([("Look it up", list(pages))], pages)
    path = tmp_path / "whole.pdf"
    with paper.Printer(HTML) as printer:
        printer.to_pdf(paper.document(pages, HTML, "Deep Notes", front), path, "Deep Notes")
    texts = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    numbers = paper.page_numbers(path)
    assert numbers["p-notation"] == 3 < numbers["p-glossary"]
    for name, title in (("notation", "Notation"), ("glossary", "Glossary")):
        assert re.search(rf"{title}\s*{numbers['p-' + name]}\b", texts[1]) and title in texts[numbers[f"p-{name}"] - 1][:80]


def test_it_begins_with_its_title_and_every_page_has_its_number(printed):
    html, _, reader = printed
    texts = [page.extract_text() for page in reader.pages]
    assert re.search(r"4\.\s*Output units", texts[0])
    for number, text in enumerate(texts, start=1):
        assert re.search(rf"Deep Notes · Chapter\s+{number}\b", text), f"page {number} ends in {text[-60:]!r}"
    assert not any("Skip to main content" in text or "Contents" in text.splitlines() for text in texts[:1])


def test_links_within_it_have_a_place_and_no_link_leads_to_this_machine(printed):
    html, path, reader = printed
    inside, outside = [], []
    for page in reader.pages:
        for entry in page.get("/Annots") or []:
            entry = entry.get_object()
            (outside if "/URI" in entry.get("/A", {}) else inside).append(entry)
    places = paper.page_numbers(path)
    assert len(inside) >= 10 and {str(entry["/Dest"]).removeprefix("/") for entry in inside} <= set(places)
    addresses = [str(entry["/A"]["/URI"]) for entry in outside]
    base = paper.base_of(html, PAGE)
    assert any(address.startswith(base) for address in addresses)
    assert not [address for address in addresses if "127.0.0.1" in address or not address.startswith("http")]


def test_folds_are_open_and_the_bars_of_the_page_are_not_there(printed):
    html, _, reader = printed
    text = "".join("".join(page.extract_text() for page in reader.pages).split())
    folds = [fold.partition("</details>")[0] for fold in html.split("dn-fold")[1:]]
    defined = r'<span class="k">def</span><span class="w"> </span><span class="nf">(\w+)'
    names = [name for fold in folds for name in re.findall(defined, fold)]
    assert len(names) >= 3 and not [name for name in names if f"def{name}(" not in text]
    assert "Clicktoshow" not in text and "Previous" not in text[-200:]
