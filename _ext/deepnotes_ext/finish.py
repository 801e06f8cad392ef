"""The last pass over the pages that were written: what the theme cannot be told by options.

- code and folds (``code.py``), and the loop under a chapter's title (``loop.py``);
- a page loads what it uses: no icon fonts (``deepnotes.css`` draws the icons), MathJax and figure scripts only where there
  is something for them to do, the search index on the search page alone, one style sheet (``styles.py`` says which rules
  of the theme) and one script for all that every page shares, and of each drawing only the one for the page's theme;
- names for what a screen reader announces;
- a description, a picture to share, a sitemap and a page for what is not found.

Each function takes a page's text and gives it back; a page that was finished before comes out unchanged.
"""

from __future__ import annotations

import hashlib
import re
from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from sphinx.application import Sphinx

from . import styles
from .cards import draw_card
from .code import name_folds, plain, wrap_code
from .figures import NARROW
from .loop import place_loop
from .paper import offer

_SCRIPT = re.compile(r'\s*<script[^>]*\bsrc="(?P<src>[^"]+)"[^>]*></script>')
_OPTION = re.compile(r"\s*<script>DOCUMENTATION_OPTIONS\..*?</script>")
_STYLE = re.compile(r'\s*<link\b(?=[^>]*rel="stylesheet")[^>]*\bhref="(?P<href>[^"]+)"[^>]*>')
_IMAGE = re.compile(r"<img\b(?P<rest>[^>]*?)(?P<end>\s*/?>)", re.DOTALL)
#: what the theme loads on every page and this book uses on some, or nowhere
SEARCH = ("searchtools.js", "language_data.js", "searchindex.js")
#: faces of the first view, asked for before the style sheet names them, so that the text does not move
FONTS = (
    "fonts/source-serif-4-latin-400.woff2",
    "fonts/source-sans-3-latin-400.woff2",
    "fonts/source-sans-3-latin-600.woff2",
)
#: MathJax's parts, in the order in which each finds what it needs
MATHJAX = ("core", "input/tex", "output/chtml", "output/chtml/fonts/tex", "a11y/assistive-mml")
FORMULAS = "formulas.js"
DONE = "<!-- finished -->"


def lean(html: str) -> str:
    """Leave out scripts and styles that have nothing to do on this page."""
    html = re.sub(r'\s*<link rel="preload" as="script"[^>]*>', "", html)
    math = re.search(r'class="[^"]*\bmath\b', html)
    figure = 'class="dn-widget"' in html
    search = "searchtools.js" in html and 'id="search-results"' in html

    def keep(match: re.Match[str]) -> str:
        name = PurePosixPath(urlsplit(match["src"]).path).name
        useless = (
            name == "fontawesome.js"
            or (name in SEARCH and not search)
            or (name == "tex-chtml.js" and not math)
            or (name.startswith("dn-") and name != "dn-page.js" and not figure)
            or (name == "design-tabs.js" and "sd-tab-set" not in html)
        )
        return "" if useless else match[0]

    html = _SCRIPT.sub(keep, html)
    if not math:
        html = re.sub(r"\s*<script>window\.MathJax = .*?</script>", "", html)
    return html if figure else re.sub(r'\s*<link rel="stylesheet"[^>]*dn-widgets\.css[^>]*/>', "", html)


def bundle(html: str, page: Path, root: Path, words: frozenset[str] | None = None) -> str:
    """One style sheet in place of many, and one script for those of the head that every page has."""
    local = [(m, (page.parent / urlsplit(m["href"]).path).resolve()) for m in _STYLE.finditer(html)]
    local = [(m, path) for m, path in local if path.is_file()]
    if len(local) > 1:
        name = _write(root, [path for _, path in local], ".css", words)
        html = _replace(
            html, [m for m, _ in local], f'\n    <link rel="stylesheet" href="{_to(page, root)}_static/{name}" />'
        )
    head = html.index("</head>")
    scripts = [m for m in _SCRIPT.finditer(html, 0, head) if " defer" not in m[0] and " async" not in m[0]]
    local = [(m, (page.parent / urlsplit(m["src"]).path).resolve()) for m in scripts]
    shared = [(m, path) for m, path in local if path.is_file() and path.name not in SEARCH]
    if len(shared) > 1:
        name = _write(root, [path for _, path in shared], ".js")
        # scripts in the page set what the bundle reads, except those that add to what it sets
        late = list(_OPTION.finditer(html, 0, head))
        by = f'\n    <script src="{_to(page, root)}_static/{name}"></script>' + "".join(m[0] for m in late)
        html = _replace(html, sorted([*late, *(m for m, _ in shared)], key=lambda m: m.start()), by)
    return html


def fetch_fonts(html: str, page: Path, root: Path) -> str:
    """Ask for the faces of the first view together with the style sheet, not after it."""
    lines = "".join(
        f'\n    <link rel="preload" as="font" type="font/woff2" crossorigin="" href="{_to(page, root)}_static/{name}" />'
        for name in FONTS
        if (root / "_static" / name).is_file()
    )
    return _STYLE.sub(lambda match: lines + match[0], html, count=1)


def _replace(html: str, matches: list[re.Match[str]], by: str) -> str:
    """Put ``by`` where the last match stands and take all of them out."""
    last = matches[-1]
    html = html[: last.start()] + by + html[last.end() :]
    for match in reversed(matches[:-1]):
        html = html[: match.start()] + html[match.end() :]
    return html


def _to(page: Path, root: Path) -> str:
    return "../" * (len(page.relative_to(root).parts) - 1)


def set_formulas(root: Path) -> None:
    """Write MathJax as one script without its menu, which is two fifths of it: startup, TeX, letters, text for screen readers."""
    folder = root / "_static" / "mathjax"
    parts = [folder / f"{name}.js" for name in ("startup", *MATHJAX)]
    if all(part.is_file() for part in parts):
        there = ", ".join(f'"{name}"' for name in MATHJAX)
        text = "\n;".join(part.read_text(encoding="utf-8") for part in parts)
        (folder / FORMULAS).write_text(f"{text}\n;MathJax.loader.preLoad({there});\n", encoding="utf-8")


def without_menu(html: str, root: Path) -> str:
    """A page that takes its formulas from that script."""
    there = (root / "_static" / "mathjax" / FORMULAS).is_file()
    return html.replace("_static/mathjax/tex-chtml.js", f"_static/mathjax/{FORMULAS}") if there else html


def _write(root: Path, paths: list[Path], suffix: str, words: frozenset[str] | None = None) -> str:
    """The files one behind the other, in ``_static``; addresses in a style sheet stay what they were.

    Its name comes from the names of its parts, so that pages that are not written again find the newest; what a browser has
    kept of an older one is told apart by the query behind it.
    """
    names = [path.relative_to(root).as_posix() for path in paths]
    name = f"book-{hashlib.sha256(' '.join(names).encode()).hexdigest()[:8]}{suffix}"
    text = f"/* parts: {' '.join(names)} */\n" + "\n".join(_part(path, root, words) for path in paths)
    (root / "_static" / name).write_text(text, encoding="utf-8")
    return f"{name}?v={hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _part(path: Path, root: Path, words: frozenset[str] | None) -> str:
    return _style(path, root, words) if path.suffix == ".css" else path.read_text(encoding="utf-8") + "\n;"


def renew_bundles(root: Path, words: frozenset[str] | None = None) -> None:
    """Write the bundles of earlier builds again, from their parts as they are now."""
    for path in (root / "_static").glob("book-*.*"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        parts = [root / name for name in first.removeprefix("/* parts: ").removesuffix(" */").split()]
        if all(part.is_file() for part in parts):
            _write(root, parts, path.suffix, words)
        else:
            path.unlink()


def _style(path: Path, root: Path, words: frozenset[str] | None) -> str:
    """A style sheet with its imports written out, without source maps, fonts of icons and rules that are not used."""
    text = path.read_text(encoding="utf-8")
    if words is not None and path.name in styles.THEME:
        text = styles.lean(text, words)
    text = re.sub(r"/\*# sourceMappingURL=.*?\*/", "", text)
    text = re.sub(
        r'@import\s+(?:url\()?["\']?([^"\')\s;]+)["\']?\)?\s*;',
        lambda m: _style((path.parent / m[1]).resolve(), root, words),
        text,
    )
    text = re.sub(r"@font-face\{[^}]*fontawesome[^}]*\}", "", text)
    here = path.parent.relative_to(root / "_static").as_posix()

    def move(match: re.Match[str]) -> str:
        address = match[2]
        if address.startswith(("data:", "#", "/")) or "://" in address or here == ".":
            return match[0]
        return f"url({match[1]}{here}/{address}{match[1]})"

    return re.sub(r"url\(([\"']?)([^\"')]+)\1\)", move, text)


def pictures(html: str, page: Path) -> str:
    """Drawings wait until they are near the window, and keep their place meanwhile; the twin of the other theme never loads."""

    def image(match: re.Match[str]) -> str:
        rest = match["rest"]
        source = re.search(r'\bsrc="([^"]+)"', rest)
        if "loading=" in rest or not source or "://" in source[1]:
            return match[0]
        lazy = "" if PurePosixPath(source[1]).name == "logo.svg" else ' loading="lazy"'
        size = (
            ""
            if re.search(r"\b(?:width|height)=|style=", rest)
            else _size((page.parent / urlsplit(source[1]).path).resolve())
        )
        return for_phones(f'<img{lazy}{size}{rest}{match["end"]}', source[1], page)

    head, body = html.split("<body", 1) if "<body" in html else ("", html)
    body = _IMAGE.sub(image, body)
    return f"{head}<body{body}" if head else body


def for_phones(image: str, source: str, page: Path) -> str:
    """The image, and for a narrow window the second drawing that stands beside its file."""
    second = source.removesuffix(".svg") + NARROW
    path = (page.parent / urlsplit(second).path).resolve()
    if not source.endswith(".svg") or not path.is_file():
        return image
    return f'<picture><source media="(max-width: 480px)" srcset="{second}"{_size(path)} />{image}</picture>'


def _size(path: Path) -> str:
    if path.suffix != ".svg" or not path.is_file():
        return ""
    root = re.search(r"<svg\b[^>]*>", path.read_text(encoding="utf-8"))
    sizes = [re.search(rf'\b{name}="([\d.]+)(pt|px)?"', root[0]) if root else None for name in ("width", "height")]
    if not all(sizes):
        return ""
    width, height = (round(float(m[1]) * (4 / 3 if m[2] == "pt" else 1)) for m in sizes if m)
    return f' width="{width}" height="{height}"'


def announce(html: str) -> str:
    """Names that say what a control does, and no role without what it asks for."""

    def chevron(match: re.Match[str]) -> str:
        title = escape(plain(match["title"]).strip(), quote=True)
        return f'{match["link"]}<details{match["open"]}><summary aria-label="Pages of {title}">'

    html = re.sub(
        r"(?P<link><a [^>]*>(?P<title>[^<]*(?:<code.*?</code>)?[^<]*)</a>)<details(?P<open>[^>]*)><summary>",
        chevron,
        html,
    )
    html = re.sub(r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1", html)
    html = re.sub(r'(<summary) aria-label="Toggle hidden content"', r"\1", html)
    html = re.sub(r'(<div class="citation"[^>]*?) role="doc-biblioentry"', r"\1", html)
    return re.sub(r'<div role="list" class="citation-list">', '<div class="citation-list">', html)


def fold_numbers(html: str) -> str:
    """Under the heading "All numbers" each measurement's tables wait behind a fold."""
    start = html.find('<section id="all-numbers">')
    if start < 0:
        return html
    first, *parts = re.split(r'(?=<section id="[^"]*">\s*<h3>)', html[start:])
    return html[:start] + first + "".join(map(_fold_section, parts))


def _fold_section(part: str) -> str:
    """A text that begins with a section, with all of it but its heading in a fold."""
    depth, end, begin = 0, len(part), part.index("</h3>") + len("</h3>")
    for tag in re.finditer(r"<(/?)section\b", part):
        depth += -1 if tag[1] else 1
        if depth == 0:
            end = tag.start()
            break
    count = part.count("<table", begin, end)
    name = "1 table" if count == 1 else f"{count} tables"
    fold = f'<details class="dn-more"><summary>{name} of what was measured</summary>{part[begin:end]}</details>'
    return part[:begin] + fold + part[end:]


# -- what others see of a page ------------------------------------------------------------------------------------


def subject(html: str) -> tuple[str, str]:
    """A page's title and what it says first: its promise under the title, else its first paragraph."""
    title = re.search(r"<h1>(.*?)(?:<a class=\"headerlink\".*?)?</h1>", html, re.DOTALL)
    name = re.sub(r"\s+", " ", plain(title[1]) if title else "").strip()
    article = html[title.end() :] if title else html
    article = article.partition("</article>")[0]
    for paragraph in re.findall(r"<p>(.*?)</p>", article, re.DOTALL):
        text = re.sub(
            r"\s+", " ", plain(re.sub(r'<span class="math.*?</span>', "…", paragraph, flags=re.DOTALL))
        ).strip()
        if len(text) > 15:
            return name, text if len(text) <= 200 else text[:200].rsplit(" ", 1)[0] + " …"
    return name, ""


def describe_page(html: str, page: Path, root: Path, base: str) -> str:
    """Description and share picture."""
    if 'property="og:title"' in html:
        return html
    name, text = subject(html)
    name = name or "Deep Notes"
    text = text or f"{name}: a page of Deep Notes, the foundations of deep learning to read, run and import."
    relative = page.relative_to(root).as_posix()
    title = name if name == "Deep Notes" else f"{name} · Deep Notes"
    card = draw_card(root / "_static" / "cards", name, text if re.match(r"nbs/(?!api/)", relative) else "")
    tags = [
        ("name", "description", text),
        ("property", "og:type", "article"),
        ("property", "og:site_name", "Deep Notes"),
        ("property", "og:title", title),
        ("property", "og:description", text),
        ("property", "og:url", base + relative),
        ("property", "og:image", base + card.relative_to(root).as_posix()),
        ("name", "twitter:card", "summary_large_image"),
    ]
    lines = "".join(f'\n    <meta {kind}="{key}" content="{escape(value, quote=True)}" />' for kind, key, value in tags)
    return html.replace("</title>", "</title>" + lines, 1)


def finish(html: str, page: Path, root: Path, base: str, words: frozenset[str] | None = None) -> str:
    """All of it, for one page; ``words`` are the names of classes that there are, None if every rule is to stay."""
    if DONE in html:
        return html
    html = place_loop(html, page.relative_to(root).as_posix(), {path.stem for path in page.parent.glob("*.html")})
    html = announce(wrap_code(name_folds(fold_numbers(html))))
    html = fetch_fonts(bundle(without_menu(lean(pictures(html, page)), root), page, root, words), page, root)
    html = describe_page(html, page, root, base)
    if page.name == "404.html":  # shown for any address, so its own are counted from the book's root
        html = html.replace("<head>", f'<head>\n    <base href="{urlsplit(base).path or "/"}" />', 1)
    return html.replace("</body>", DONE + "</body>", 1)


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Go over everything that was written (event ``build-finished``)."""
    if exception is not None or app.builder.format != "html":
        return
    root = Path(app.outdir)
    base = (app.config.html_baseurl or "/").rstrip("/") + "/"
    words = styles.known_words(root)
    set_formulas(root)
    renew_bundles(root, words)
    addresses = []
    for page in sorted(root.rglob("*.html")):
        relative = page.relative_to(root)
        if relative.parts[0].startswith("_") and relative.parts[0] != "_modules":
            continue
        html = page.read_text(encoding="utf-8")
        if "</head>" not in html or "<body" not in html:  # the address of the book itself, which forwards
            continue
        done = offer(finish(html, page, root, base, words), page, root)
        if done != html:
            page.write_text(done, encoding="utf-8")
        if relative.parts[0] == "nbs":
            addresses.append(base + relative.as_posix())
    lines = "".join(f"  <url><loc>{escape(address)}</loc></url>\n" for address in addresses)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n'
    (root / "sitemap.xml").write_text(f"{head}{lines}</urlset>\n", encoding="utf-8")


def not_found(app: Sphinx):
    """The page for an address that leads nowhere (event ``html-collect-pages``)."""
    body = (
        "<h1>This page is not here</h1>"
        "<p>The address leads nowhere: perhaps a chapter moved, or a letter is missing. "
        f'<a href="{app.config.root_doc}.html">Begin at the front page</a>, or search with the field at the left.</p>'
    )
    yield "404", {"title": "Not found", "body": body}, "page.html"


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", finish_pages, priority=550)  # before offline.py looks at what is left
