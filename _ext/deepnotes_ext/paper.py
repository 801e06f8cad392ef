"""The book on paper: `make pdf` prints the built pages with Chromium, one PDF per page of the chapters and one of them all.

Chromium's own printing is what the print style of ``deepnotes.css`` is written for. What it lacks is done here: a page to
print holds the articles alone, with their pictures loaded and their folds open; links within what is printed lead to
places in it, all others to the published book; the whole book gets a title and a table of contents with page numbers,
for which it is printed twice.

The PDFs stand in ``pdf/`` of the site, and the download menu of a page offers them as soon as they do.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import sys
import tempfile
import threading
from html import escape, unescape
from pathlib import Path
from posixpath import normpath, relpath
from urllib.parse import unquote, urlsplit

FOLDER = "pdf"
WHOLE = "deep-notes"  # the file of the whole book
#: parts of the contents whose pages are printed, and single pages behind them
PARTS = ("Foundations", "Training", "Speed")
BEHIND = ("nbs/notation.html", "nbs/glossary.html", "nbs/bibliography.html")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions", "--no-first-run")
FOOT = (
    '<div style="width:100%;margin:0 16mm;font:7.5pt sans-serif;color:#555;display:flex;justify-content:space-between">'
    '<span>{}</span><span class="pageNumber"></span></div>'
)
READY = """async () => {
  window.dispatchEvent(new Event("beforeprint"));  // now, so that what it opens is drawn before the printing
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
  await document.fonts.ready;
  const come = (e) => e.complete || new Promise((r) => { e.onload = e.onerror = r; });
  await Promise.all([...document.images].map(come));
  for (const e of document.querySelectorAll(".dn-widget")) e.scrollIntoView();
  await new Promise((r) => setTimeout(r, 300));
}"""

NUMBER = """(numbers) => {
  for (const row of document.querySelectorAll(".dn-contents a"))
    row.querySelector("b").textContent = numbers[row.getAttribute("href").slice(1)];
}"""


# -- what is printed ----------------------------------------------------------------------------------------------


def order(html: str) -> list[tuple[str, list[str]]]:
    """Parts and their pages, as the contents at the side of the front page list them."""
    nav = re.search(r'<nav class="bd-links.*?</nav>', html, re.DOTALL)
    parts: list[tuple[str, list[str]]] = []
    for caption, link in re.findall(
        r'<span class="caption-text">(.*?)</span>|<a class="reference internal" href="([^"#]+)"', nav[0] if nav else ""
    ):
        if caption:
            parts.append((unescape(caption), []))
        elif parts:
            parts[-1][1].append(normpath(f"nbs/{link}"))
    return parts


def article(html: str) -> str:
    """A page's text."""
    return re.search(r"<article[^>]*>(.*)</article>", html, re.DOTALL)[1]


def title_of(html: str) -> str:
    """Its title, with its number and without the book's name."""
    title = re.search(r"<title>(.*?)</title>", html, re.DOTALL)[1]
    return unescape(title).rpartition(" — ")[0] or unescape(title)


def base_of(html: str, page: str) -> str:
    """The published book's address, from what a page says of its own."""
    own = re.search(r'<link rel="canonical" href="([^"]+)"', html)
    return own[1].removesuffix(page) if own else ""


def key_of(page: str) -> str:
    """The beginning of all names on a page."""
    return "p-" + re.sub(r"\W+", "-", page.removesuffix(".html").removeprefix("nbs/"))


def link(reference: str, page: str, printed: set[str], base: str) -> str:
    """Where a link of ``page`` leads on paper: to a place in it, or to the published book."""
    parts = urlsplit(reference)
    if parts.scheme or parts.netloc:
        return reference
    folder = page.rpartition("/")[0]
    target = normpath(f"{folder}/{unquote(parts.path)}") if parts.path else page
    if target in printed:
        return f"#{key_of(target)}" + (f"--{parts.fragment}" if parts.fragment else "")
    return base + target + (f"#{parts.fragment}" if parts.fragment else "")


def prepare(html: str, page: str, printed: set[str], base: str) -> str:
    """An article as it is printed from the root of the site, together with others."""
    key, folder = key_of(page), page.rpartition("/")[0]

    def tag(match: re.Match[str]) -> str:
        text = match[0]
        if text.startswith("<script"):
            return text
        text = re.sub(r'(\s(?:id|for|aria-(?:labelledby|describedby|controls))=")([^"]+)"', rf'\g<1>{key}--\2"', text)
        text = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}--\1)", text)
        if text.startswith("<a "):
            return re.sub(
                r'href="([^"]*)"', lambda m: f'href="{escape(link(unescape(m[1]), page, printed, base))}"', text
            )
        text = re.sub(r'((?:xlink:)?href=")#', rf"\g<1>#{key}--", text)
        text = text.replace(' loading="lazy"', "")
        return re.sub(r'(\ssrc=")(?![a-z]+:|/)([^"]+)', lambda m: m[1] + normpath(f"{folder}/{m[2]}"), text)

    text = re.sub(r'<img\b[^>]*class="[^"]*\bdn-dark\b[^>]*>|<source media=[^>]*>', "", article(html))
    text = re.sub(r"<(?:script\b.*?</script|[a-zA-Z](?:[^<>\"]|\"[^\"]*\")*)>", tag, text, flags=re.DOTALL)
    return f'<article class="bd-article dn-paper" id="{key}">{text}</article>'


def head(pages: dict[str, str], root: Path, title: str, base: str) -> str:
    """The head of what is printed: the style sheet and scripts of the page that has most of them."""

    def largest(pattern: str) -> str:
        found = {
            normpath(f"{page.rpartition('/')[0]}/{urlsplit(address).path}")
            for page, html in pages.items()
            for address in re.findall(pattern, html.partition("</head>")[0])
        }
        return max(sorted(found), key=lambda name: (root / name).stat().st_size, default="")

    style = largest(r'<link rel="stylesheet" href="([^"]+\.css[^"]*)"')
    scripts = [largest(r'<script src="([^"]*/book-\w+\.js[^"]*)"'), largest(r'src="([^"]*tex-chtml\.js[^"]*)"')]
    settings = {
        line
        for html in pages.values()
        for line in re.findall(r"<script>(?:let toggle|var toggle|window\.MathJax).*?</script>", html)
    }
    lines = [
        '<meta charset="utf-8"/>',
        f"<title>{escape(title)}</title>",
        f'<link rel="canonical" href="{escape(base)}"/>',
        f'<link rel="stylesheet" href="{style}"/>',
        *sorted(settings),
        *(f'<script src="{name}"></script>' for name in scripts[:1] if name),
        *(f'<script defer src="{name}"></script>' for name in scripts[1:] if name),
    ]
    return "\n".join(lines)


def document(pages: dict[str, str], root: Path, title: str, front: str = "") -> str:
    """The articles of some pages, one behind the other, as one page to print; ``pages`` by their path from the site's root."""
    first = next(iter(pages))
    base = base_of(pages[first], first)
    body = "\n".join(prepare(html, page, set(pages), base) for page, html in pages.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en" data-theme="light" data-mode="light"><head>{head(pages, root, title, base)}</head>\n'
        '<body><div class="sbt-scroll-pixel-helper"></div>\n'
        f'<main class="bd-main"><div class="bd-content"><div class="bd-article-container">\n{front}{body}\n'
        "</div></div></main></body></html>\n"
    )


def contents(parts: list[tuple[str, list[str]]], pages: dict[str, str]) -> str:
    """The whole book's title and its table of contents, with a dash for each number, which is known when it was printed."""
    first = next(iter(pages))
    base = base_of(pages[first], first)
    rows = []
    for part, members in parts:
        rows.append(f'<p class="dn-part">{escape(part)}</p>' if part else "<p></p>")
        for page in members:
            rows.append(f'<p><a href="#{key_of(page)}"><span>{escape(title_of(pages[page]))}</span><b>–</b></a></p>')
    return (
        '<article class="bd-article dn-paper dn-title"><h1>Deep Notes</h1>'
        "<p>The foundations of deep learning, to read, run and import</p>"
        f'<p><a href="{escape(base)}">{escape(base.removeprefix("https://"))}</a></p></article>\n'
        f'<article class="bd-article dn-paper dn-contents"><h1>Contents</h1>{"".join(rows)}</article>\n'
    )


# -- the browser --------------------------------------------------------------------------------------------------


class _Site(http.server.SimpleHTTPRequestHandler):
    """The built book, and beside it the one page that is to be printed."""

    paper = b""

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/paper.html":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.paper)))
        self.end_headers()
        self.wfile.write(self.paper)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Printer:
    """Chromium with the built book before it; a context manager."""

    def __init__(self, root: Path):
        self.root = root

    def __enter__(self) -> Printer:
        from playwright.sync_api import sync_playwright

        self.site = type("Site", (_Site,), {})
        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(self.site, directory=str(self.root))
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.engine = sync_playwright().start()
        program = os.environ.get("DEEPNOTES_CHROMIUM") or shutil.which("chromium")
        self.browser = self.engine.chromium.launch(executable_path=program, args=list(FLAGS))
        return self

    def __exit__(self, *error: object) -> None:
        self.browser.close()
        self.engine.stop()
        self.server.shutdown()

    def to_pdf(self, html: str, path: Path, title: str) -> None:
        """Print a page, with the numbers of pages in its contents if it has any; the file appears when it is complete."""
        self.site.paper = html.encode()
        page = self.browser.new_page(
            viewport={"width": 718, "height": 1000}, color_scheme="light", reduced_motion="reduce"
        )
        page.set_default_timeout(1_800_000)
        page.on("pageerror", lambda error: print(f"{path.name}: {error}", file=sys.stderr))
        page.goto(f"http://127.0.0.1:{self.server.server_port}/paper.html", wait_until="load")
        page.evaluate(READY)
        settings = {
            "prefer_css_page_size": True,
            "print_background": True,
            "display_header_footer": True,
            "header_template": "<span></span>",
            "footer_template": FOOT.format(escape(title)),
            "outline": True,
            "tagged": True,
        }
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            page.pdf(path=str(part), **settings)
            if "dn-contents" in html:  # known only now
                page.evaluate(NUMBER, page_numbers(part))
                page.pdf(path=str(part), **settings)
            pack(part)
            part.replace(path)
        page.close()


def pack(path: Path) -> None:
    """Chromium writes each of ten thousands of small objects, a tag for a word, as plain text: packed, a PDF takes half the space."""
    import pikepdf

    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.remove_unreferenced_resources()
        pdf.save(path, object_stream_mode=pikepdf.ObjectStreamMode.generate, recompress_flate=True)


def page_numbers(path: Path) -> dict[str, int]:
    """For each place of a PDF that a link in it names, the number of its page, from 1."""
    from pypdf import PdfReader

    reader = PdfReader(path)
    places = reader.named_destinations
    return {name.removeprefix("/"): reader.get_destination_page_number(place) + 1 for name, place in places.items()}


def print_book(root: Path, only: str = "", whole: bool = True) -> list[Path]:
    """Print what is older than its page (all of it into one file as well), offer it on the pages, and return what is new."""
    parts = [(part, pages) for part, pages in order((root / "nbs/index.html").read_text("utf-8")) if part in PARTS]
    parts.append(("", [page for page in BEHIND if (root / page).is_file()]))
    pages = {page: (root / page).read_text("utf-8") for _, members in parts for page in members}
    (root / FOLDER).mkdir(exist_ok=True)
    made = []
    with Printer(root) as printer:
        for page, html in pages.items():
            path = pdf_of(root, page)
            if page in BEHIND or not re.search(only, page) or _newer(path, [root / page]):
                continue
            printer.to_pdf(document({page: html}, root, title_of(html)), path, f"Deep Notes · {title_of(html)}")
            made.append(path)
        path = root / FOLDER / f"{WHOLE}.pdf"
        if whole and not _newer(path, [root / page for page in pages]):
            front = contents(parts, pages)
            printer.to_pdf(document(pages, root, "Deep Notes", front), path, "Deep Notes")
            made.append(path)
    for page in [*pages, "nbs/index.html"]:
        html = (root / page).read_text("utf-8")
        if (offered := offer(html, root / page, root)) != html:
            # a page that only got an entry is not newer than what was printed from it
            stat = (root / page).stat()
            (root / page).write_text(offered, "utf-8")
            os.utime(root / page, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return made


def pdf_of(root: Path, page: str) -> Path:
    """The file of one page."""
    return root / FOLDER / f"{Path(page).stem}.pdf"


def _newer(path: Path, sources: list[Path]) -> bool:
    return path.is_file() and all(path.stat().st_mtime_ns > source.stat().st_mtime_ns for source in sources)


# -- the menu -----------------------------------------------------------------------------------------------------

_PRINT = re.compile(r'<li>\s*<button onclick="window\.print\(\)".*?</button>\s*</li>', re.DOTALL)
_OFFER = re.compile(r'<li class="dn-pdf">.*?</li>', re.DOTALL)


def offer(html: str, page: Path, root: Path) -> str:
    """The download menu with the PDFs that were made, before the entry that prints the page."""
    html = _OFFER.sub("", html)
    own = pdf_of(root, page.name)
    files = [(own, "this page, .pdf"), (root / FOLDER / f"{WHOLE}.pdf", "the whole book, .pdf")]
    entries = "".join(
        f'<li class="dn-pdf"><a href="{relpath(path.as_posix(), page.parent.as_posix())}" '
        'class="btn btn-sm btn-download-pdf-button dropdown-item"><span class="btn__icon-container">'
        f'<i class="fas fa-file-pdf"></i></span><span class="btn__text-container">{name}</span></a></li>'
        for path, name in files
        if path.is_file()
    )
    return _PRINT.sub(lambda match: entries + match[0], html, count=1) if entries else html


def main(arguments: list[str]) -> int:
    """What `make pdf` runs, with the site and perhaps a pattern: then only the pages that it finds, without the whole book."""
    root, only = Path(arguments[0]).resolve(), "".join(arguments[1:2])
    made = print_book(root, only, whole=not only)
    for path in made:
        print(f"{path.relative_to(root)}  {path.stat().st_size / 1e6:.1f} MB")
    print("nothing changed since the PDFs were printed" if not made else f"{len(made)} PDFs in {root / FOLDER}")
    return 0
