"""The theme's style sheets without the rules for what no page of this book has.

A theme styles every component that somebody may use: two thirds of its rules name classes that occur nowhere here. A rule
stays when each class and id of its selector is a word of some page or of some script, so that what scripts add later is styled too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

#: style sheets whose rules are weighed; the book's own are not
THEME = ("pydata-sphinx-theme.css", "sphinx-design.min.css", "sphinx-book-theme.css")
#: scripts whose words say nothing of pages: of icons, of formulas, of the search
SILENT = re.compile(r"fontawesome|/mathjax/|/locales/|/book-|searchindex|language_data|stemmer")
_STRINGS = re.compile(r'"(?:\\.|[^"\\])*"' + r"|'(?:\\.|[^'\\])*'" + r"|/\*.*?\*/", re.DOTALL)
_NAME = re.compile(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)")


def known_words(root: Path) -> frozenset[str]:
    """The words that may be names of classes or ids: those in attributes of pages, and all of the scripts'.

    Parameters
    ----------
    root : Path
        The folder of the built book.
    """
    words: set[str] = set()
    for page in root.rglob("*.html"):
        for value in set(re.findall(r'\b(?:class|id)="([^"]*)"', page.read_text(encoding="utf-8"))):
            words.update(value.split())
    scripts = [path for path in (root / "_static").rglob("*.js") if not SILENT.search(path.as_posix())]
    for path in [*scripts, *Path(__file__).parent.glob("*.py")]:  # the passes over the pages add classes, too
        words.update(re.findall(r"[A-Za-z_][\w-]*", path.read_text(encoding="utf-8")))
    return frozenset(words)


def rules(css: str) -> Iterator[tuple[str, str | None]]:
    """The rules of a style sheet as (what stands before the braces, what is in them); None in place of braces that are not there."""
    blank = _STRINGS.sub(lambda match: " " * len(match[0]), css)  # braces in strings and comments do not count
    start = at = depth = opened = 0
    for mark in re.finditer(r"[{};]", blank):
        at = mark.end()
        if mark[0] == ";" and not depth:
            yield css[start:at], None
            start = at
        elif mark[0] == "{":
            opened = at if not depth else opened
            depth += 1
        elif mark[0] == "}" and depth:
            depth -= 1
            if not depth:
                yield css[start : opened - 1], css[opened : at - 1]
                start = at


def outside(selector: str) -> str:
    """A selector without what stands in brackets: `:not(.a)` asks for no class, and `:is(.a, .b)` for either."""
    while (shorter := re.sub(r"\([^()]*\)|\[[^\[\]]*\]", "", selector)) != selector:
        selector = shorter
    return selector


@lru_cache(maxsize=32)
def lean(css: str, words: frozenset[str]) -> str:
    """A style sheet without the selectors that match nothing.

    Parameters
    ----------
    css : str
        A style sheet, or what stands in the braces of `@media`.
    words : frozenset of str
        Names of classes and ids that there are.
    """
    out = []
    for before, inside in rules(css):
        plain = _STRINGS.sub("", before).strip()
        if inside is None:
            out.append(before)
        elif re.match(r"@(media|supports|layer|container)\b", plain):
            kept = lean(inside, words)
            out.append(f"{plain}{{{kept}}}" if kept.strip() else "")
        elif plain.startswith("@"):
            out.append(f"{before}{{{inside}}}")
        else:
            selectors = re.split(r",(?![^(]*\))", re.sub(r"/\*.*?\*/", "", before, flags=re.DOTALL))
            used = [one.strip() for one in selectors if all("\\" in name or name in words for name in _NAME.findall(outside(one)))]
            out.append(f"{','.join(used)}{{{inside}}}" if used else "")
    return "".join(out)
