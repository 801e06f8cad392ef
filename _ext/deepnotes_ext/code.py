"""Code as it stands on a page: no line is cut, docstrings are folded to their first line, folds say what is in them.

Works on the HTML that Pygments and MyST-NB wrote. Every line becomes a block of its own, so that it can wrap with a
hanging indent; a comment that would push its line over the page's width moves above the line. What the copy button
copies runs as before.
"""

from __future__ import annotations

import ast
import re
from html import escape, unescape

#: columns that fit beside the contents on a laptop
COLUMNS = 85
#: a docstring of more lines than this is folded
DOCSTRING = 3

_BLOCK = re.compile(r'(<div class="highlight"><pre>)(?P<body>.*?)(</pre>)', re.DOTALL)
_FOLD = re.compile(
    r'<details class="admonition (?P<kind>hide [\w-]+)">\s*<summary[^>]*>\s*<p class="collapsed[^>]*>(?P<show>.*?)</p>'
    r"\s*<p class=\"expanded[^>]*>.*?</p>\s*</summary>(?P<rest>\s*<div class=\"cell_input[^>]*>.*?</pre>|)",
    re.DOTALL,
)
_COMMENT = re.compile(r'<span class="c1">#(?! ?noqa)[^<]*</span>$')
_CHECK = re.compile(r"^\s*(?:assert\b|(?:\w+\.)?test_\w+\(|(?:\w+\.)?check_\w+\(|np\.testing\.\w+\()", re.MULTILINE)


def plain(html: str) -> str:
    """The text of a piece of HTML."""
    return unescape(re.sub(r"<[^>]+>", "", html))


def wrap_code(html: str) -> str:
    """Give every line of every piece of highlighted code its own block; blocks with links between lines stay as they are."""

    def block(match: re.Match[str]) -> str:
        body = match["body"]
        if "<div" in body or "dn-line" in body or not body.strip():
            return match[0]
        lines = body.removeprefix("<span></span>").rstrip("\n").split("\n")
        if any(line.count("<span") != line.count("</span") for line in lines):
            return match[0]
        return match[1] + "<span></span>" + "".join(_lines(lines)) + match[3]

    return _BLOCK.sub(block, html)


def _lines(lines: list[str]) -> list[str]:
    out: list[str] = []
    number = 0
    while number < len(lines):
        rest = _docstring(lines, number)
        out += _one(lines[number])
        number += 1
        if rest > DOCSTRING:
            inside = "".join(part for line in lines[number : number + rest] for part in _one(line))
            indent = _indent(lines[number - 1])
            label = f'<summary style="--i:{indent}">{rest} more lines of its docstring</summary>'
            out.append(f'<details class="dn-doc">{label}{inside}</details>')
            number += rest
    return out


def _indent(line: str) -> int:
    text = plain(line)
    return len(text) - len(text.lstrip())


def _docstring(lines: list[str], start: int) -> int:
    """How many lines follow the first line of a docstring that begins at ``start``; 0 if none begins there."""
    first = plain(lines[start]).strip().lstrip("rRuUbB")
    mark = first[:3]
    if 'class="sd"' not in lines[start] or mark not in ('"""', "'''") or mark in first[3:]:
        return 0
    for count, line in enumerate(lines[start + 1 :], start=1):
        if mark in plain(line):
            return count
    return 0


def _one(line: str) -> list[str]:
    parts = [line]
    comment = _COMMENT.search(line, max(0, line.rfind("<span")))
    if comment and len(plain(line)) > COLUMNS and plain(line[: comment.start()]).strip():
        parts = [" " * _indent(line) + comment[0], line[: comment.start()].rstrip()]
    return [f'<span class="dn-line" style="--i:{_indent(part)}">{part}\n</span>' for part in parts]


# -- folds --------------------------------------------------------------------------------------------------------


def name_folds(html: str) -> str:
    """Say in the summary of each folded source what is in it, and nothing that a screen reader would hear in its place."""

    def fold(match: re.Match[str]) -> str:
        code = re.search(r"<pre>(.*?)</pre>", match["rest"], re.DOTALL)
        words = describe(plain(code[1])) if code else escape(plain(match["show"]))
        return f'<details class="dn-fold {match["kind"]}">\n<summary>{words}</summary>{match["rest"]}'

    return _FOLD.sub(fold, html)


def describe(code: str) -> str:
    """What a folded cell holds, as HTML: names of what it defines, else what kind of thing it is, and its length.

    >>> describe("import numpy as np\\nimport math")
    'Imports, 2 lines'
    """
    lines = len([line for line in code.strip().splitlines() if line.strip()])
    length = "1 line" if lines == 1 else f"{lines} lines"
    checks = len(_CHECK.findall(code))
    try:
        body = ast.parse(re.sub(r"^[%!].*$", "pass", code, flags=re.MULTILINE)).body
    except SyntaxError:
        body = []
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)]
    if names and all(name.startswith(("check_", "test_")) for name in names):
        return f"{len(names)} checks, {length}" if len(names) > 1 else f"A check, {length}"
    if names:
        return f"{_listed(names)}, {length}"
    if body and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
        return f"Imports, {length}"
    if re.search(r"\b(?:plt|ax|axes|fig)\.|\.plot\(", code):
        return f"How the figure is drawn, {length}"
    if checks:
        return "1 check" if checks == 1 else f"{checks} checks"
    if "glue(" in code:
        return f"Numbers for the text, {length}"
    targets = [t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)]
    return f"{_listed(targets)}, {length}" if targets else f"Code, {length}"


def _listed(names: list[str]) -> str:
    shown = [f"<code>{escape(name)}</code>" for name in dict.fromkeys(names)]
    if len(shown) > 3:
        return ", ".join(shown[:2]) + f" and {len(shown) - 2} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
