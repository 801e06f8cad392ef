"""The book must read the same with no network: no page may load a script, style, font or image from elsewhere.

Links that a reader follows are free to lead anywhere; what a page loads by itself is checked when the build ends,
and a page that loads something from another host is a warning, hence an error.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

LOADS = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "object": ("data",),
    "link": ("href",),
}
#: <link> elements that only name an address
NAMES = frozenset({"canonical", "alternate", "author", "index", "search", "next", "prev", "license", "help"})
_REMOTE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
_CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?\s*((?:https?:)?//[^\"')\s;]+)", re.IGNORECASE)


class _Loads(HTMLParser):
    """Collects what a page loads from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        self.found += _CSS.findall(values.get("style", ""))
        if tag == "link" and set(values.get("rel", "").lower().split()) <= NAMES:
            return
        for name in LOADS.get(tag, ()):
            for part in values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]:
                if _REMOTE.match(part):
                    self.found.append(part.strip())

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if self._style:
            self.found += _CSS.findall(data)


def remote_loads(text: str, *, css: bool = False) -> list[str]:
    """Addresses on other hosts that a page (or a style sheet) loads by itself.

    Parameters
    ----------
    text : str
        HTML, or CSS with ``css=True``.

    Returns
    -------
    list of str
        In the order in which they appear.
    """
    if css:
        return _CSS.findall(text)
    parser = _Loads()
    parser.feed(text)
    return parser.found


def check_pages(app: Sphinx, exception: Exception | None) -> None:
    """Look through everything the build wrote (event ``build-finished``)."""
    if exception is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css"):
            for address in remote_loads(path.read_text(encoding="utf-8", errors="replace"), css=path.suffix == ".css"):
                name = path.relative_to(app.outdir).as_posix()
                logger.warning("%s loads %s: a page may load only what is on the site", name, address, type="deepnotes")


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("build-finished", check_pages, priority=600)
