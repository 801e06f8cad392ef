"""The map of the book: the training loop in five boxes, small under the title of each chapter, with the chapter's own box lit.

The boxes carry the names of the procedure that the book tests: define a network (1); over and over (2) process inputs (2a),
compute the loss (2b), propagate gradients back (2c); and update the weights. Each leads to the chapter that explains it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import escape

#: name in the procedure, word in the box, page, what it stands for
BOXES = (
    ("1", "network", "06_layers", "define a network"),
    ("2a", "process", "03_activations", "process the input"),
    ("2b", "loss", "04_outputs", "compute the loss"),
    ("2c", "gradients", "02_backprop", "propagate gradients back"),
    ("", "update", "07_optimizers", "update the weights"),
)
#: boxes of each chapter; the last three are about all of it
LIT = {1: (1,), 2: (3,), 3: (1,), 4: (2,), 5: (0,), 6: (0,), 7: (4,)} | dict.fromkeys((8, 9, 10, 11), (0, 1, 2, 3, 4))
WIDTH, HEIGHT, GAP = 72, 34, 10
_HEAD = re.compile(r"</h1>(?:\s*<blockquote>.*?</blockquote>)?", re.DOTALL)
_CHAPTER = re.compile(r"nbs/(\d\d)b?_\w+\.html")


def draw_loop(lit: tuple[int, ...], there: Collection[str] | None = None) -> str:
    """The drawing, as a piece of HTML, with some of its boxes lit; a box leads to its page if that is among those `there`."""
    parts = []
    for i, (mark, word, page, meaning) in enumerate(BOXES):
        x = i * (WIDTH + GAP) + 1
        here = ' class="dn-lit"' if i in lit else ""
        label = escape(f"{mark} {meaning}".strip() + (", this chapter" if here else ""), quote=True)
        text = f"<tspan>{mark}</tspan> {word}" if mark else word
        tag, goal = ("a", f' href="{page}.html"') if there is None or page in there else ("g", "")
        parts.append(
            f'<{tag}{goal}{here} aria-label="{label}"><rect x="{x}" y="1" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
            f'<text x="{x + WIDTH / 2}" y="{HEIGHT / 2 + 4.5}">{text}</text></{tag}>'
        )
        if i:
            parts.append(f'<path d="M{x - GAP + 1} {HEIGHT / 2 + 1}h{GAP - 3}m-3 -3l3 3 -3 3"/>')
    first, last = WIDTH + GAP + 1 + WIDTH / 2, 4 * (WIDTH + GAP) + 1 + WIDTH / 2
    parts.append(f'<path d="M{last} {HEIGHT + 2}v7q0 4 -4 4H{first + 4}q-4 0 -4 -4v-6m-3 3l3 -3 3 3"/>')
    width = 5 * WIDTH + 4 * GAP + 2
    where = "all of it" if len(lit) == len(BOXES) else " and ".join(BOXES[i][3] for i in lit)
    return (
        f'<nav class="dn-map" aria-label="The training loop; this chapter: {where}">'
        f'<svg viewBox="0 0 {width} {HEIGHT + 15}">{"".join(parts)}</svg></nav>'
    )


def place_loop(html: str, name: str, there: Collection[str] | None = None) -> str:
    """A page with the drawing under its title, if it is a chapter's; ``name`` counts from the book's root, ``there`` names the chapters."""
    chapter = _CHAPTER.fullmatch(name)
    if not chapter or int(chapter[1]) not in LIT or 'class="dn-map"' in html:
        return html
    drawing = draw_loop(LIT[int(chapter[1])], there)
    start = max(html.find("<article"), 0)  # the head for paper repeats the title before it, unseen
    return html[:start] + _HEAD.sub(lambda head: head[0] + drawing, html[start:], count=1)
