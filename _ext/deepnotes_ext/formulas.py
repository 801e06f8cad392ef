r"""Formulas that no page can set are found while the book is built, wherever they came from: text, options, captions.

Mathematics in an option or attribute passes through another parser than mathematics in text, and arrives with too many
backslashes or too few. MathJax would print an error, or letters, and no build would fail.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

_DOLLARS = re.compile(r"(?<!\\)\$[^$\n]*\\[a-zA-Z]+[^$\n]*\$|\\[(\[][^\n]*\\[)\]]")


def fault(tex: str) -> str:
    r"""What keeps a formula from being set, in a few words; empty if nothing is known.

    >>> fault("\\\\sin x")
    'a doubled backslash before sin'
    """
    rows = re.search(r"\\begin\{|\\substack|\\\\\s", tex)
    doubled = re.search(r"\\\\([a-zA-Z]+)", tex)
    if doubled and not rows:
        return f"a doubled backslash before {doubled[1]}"
    bare = re.sub(r"\\[\\{}]", "", tex)
    depth = 0
    for sign in re.findall(r"[{}]", bare):
        depth += 1 if sign == "{" else -1
        if depth < 0:
            break
    return "braces that do not pair" if depth else ""


def check_formulas(app: Sphinx, doctree: nodes.document) -> None:
    """Look at every formula of a page, and at text that was meant to be one (event ``doctree-read``)."""

    def warn(text: str, why: str, where: nodes.Node) -> None:
        message = "formula %r has %s"
        logger.warning(message, text[:80], why, location=where, type="deepnotes", subtype="formula")

    for node in doctree.findall(lambda n: isinstance(n, nodes.math | nodes.math_block)):
        if why := fault(node.astext()):
            warn(node.astext(), why, node)
    for caption in doctree.findall(nodes.caption):
        for node in caption.findall(nodes.Text):
            if _DOLLARS.search(node.astext()) and not isinstance(node.parent, nodes.math | nodes.literal):
                warn(node.astext(), "stayed text", caption)


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("doctree-read", check_formulas)
