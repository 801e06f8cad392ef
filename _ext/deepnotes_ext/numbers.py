"""Numbers that the book computed, in its sentences: written as prose, and saying where they come from.

The role ``{glue:text}`` is MyST-NB's; here its number gets a true minus and powers of ten (4·10⁻⁶, not 4e-06), a faint dotted
underline instead of bold (``deepnotes.css``), and, when one points at it, the line of the chapter that computed it.
"""

from __future__ import annotations

import ast
import functools
import re
from html import escape
from typing import Any

from docutils import nodes
from myst_nb.ext.glue.roles import PasteTextRole
from sphinx.application import Sphinx

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MACHINE = re.compile(r"(?P<minus>-?)(?P<front>\d+(?:\.\d+)?)e(?P<power>[+-]\d+)")


def as_prose(text: str) -> str:
    """A formatted number as a person would write it.

    >>> as_prose("4e-06"), as_prose("1e+10"), as_prose("-0.993")
    ('4·10⁻⁶', '10¹⁰', '−0.993')
    """
    found = _MACHINE.fullmatch(text)
    if not found:
        return re.sub(r"^-(?=\d)", "−", text)
    power = "10" + str(int(found["power"])).translate(RAISED)
    front = "" if float(found["front"]) == 1 else f"{found['front']}·"
    return ("−" if found["minus"] else "") + front + power


def origin(key: str, cells: list[str]) -> str:
    """The first line of what computed the number that was glued as ``key``; empty if it cannot be told.

    Parameters
    ----------
    key : str
        The name that the number has.
    cells : list of str
        The chapter's code cells.
    """
    trees = [_tree(cell) for cell in cells]
    for number, tree in enumerate(trees):
        for call in ast.walk(tree):
            # a name alone could be any key
            if isinstance(call, ast.Call) and len(call.args) > 1 and not isinstance(call.args[0], ast.Name) and _names(call.args[0], key):
                used = {node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)}
                line = _last_assigned(used, trees[: number + 1])
                return _line(line, cells) or _first(ast.get_source_segment(cells[number], call.args[1]) or "")
    return ""


@functools.lru_cache(maxsize=256)
def _tree(cell: str) -> ast.Module:
    try:
        return ast.parse(re.sub(r"^[%!].*", "", cell, flags=re.MULTILINE))
    except SyntaxError:  # more IPython than Python
        return ast.parse("")


def _names(node: ast.expr, key: str) -> bool:
    """Whether a call's first argument is the key, or a pattern for it."""
    return re.fullmatch(_pattern(node), key) is not None


def _pattern(node: ast.expr) -> str:
    """What a text can be: literal, or put together from literals and values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values) or "(?!)"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pattern(node.left) + _pattern(node.right)
    return ".+" if isinstance(node, ast.FormattedValue | ast.Name | ast.Subscript | ast.Call) else "(?!)"


def _last_assigned(names: set[str], trees: list[ast.Module]) -> tuple[int, ast.stmt] | None:
    """The last statement at the top of a cell that gives one of these names its value."""
    found = None
    for number, tree in enumerate(trees):
        for statement in tree.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            given = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
            if given & names:
                found = number, statement
    return found


def _line(found: tuple[int, ast.stmt] | None, cells: list[str]) -> str:
    return _first(ast.get_source_segment(cells[found[0]], found[1]) or "") if found else ""


def _first(text: str) -> str:
    line = text.partition("\n")[0].strip()
    return line if len(line) <= 90 else line[:89] + "…"


class computed(nodes.inline):
    """A number that a cell computed."""


def visit_computed(self: Any, node: computed) -> None:
    """Write the number with what it says when one points at it."""
    said = f' title="{escape(node["title"], quote=True)}"' if node.get("title") else ""
    self.body.append(f'<span class="pasted-text"{said}>')


def depart_computed(self: Any, node: computed) -> None:
    """End it."""
    self.body.append("</span>")


class NumberRole(PasteTextRole):
    """``{glue:text}`key:format```, as prose."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Let MyST-NB find and format the number."""
        found, messages = super().run()
        cells = [source for _, source in self.document.settings.env.temp_data.get("deepnotes_cells", [])]
        line = origin(self.text.rsplit(":", 1)[0], cells)
        return [_prose(node, line) for node in found], messages


def _prose(node: nodes.Node, line: str) -> nodes.Node:
    if not isinstance(node, nodes.inline) or "pasted-text" not in node["classes"]:
        return node
    text = as_prose(node.astext())
    return computed(text, text, classes=["pasted-text"], title=f"computed by the book: {line}" if line else "")


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.add_node(computed, html=(visit_computed, depart_computed))
    app.add_role_to_domain("glue", "text", NumberRole(), override=True)
