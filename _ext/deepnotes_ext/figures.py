"""Figures that read well on a light and on a dark page.

A chapter's figures arrive as SVG with a transparent background (``execution.py`` asks for SVG, ``figures.mplstyle``
sets the rest). Each is written a second time with its inks exchanged, black for near-white and so on, and the page
shows the one that fits. Data colors stay, except the palette's blue, which is lightened to keep its contrast;
middle grays become lighter ones; raster images inside (``imshow``) stay as they are.

On a phone both are replaced by their narrow twins, which the kernel drew (``narrow.py``); ``finish.py`` names them in the page.

A figure needs a text for those who cannot see it: ``#| fig-alt: …`` at the top of the cell. One without is a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from . import narrow
from .execution import executed
from .notebooks import first_line

logger = logging.getLogger(__name__)

INK = "#e6e6e6"
NARROW = ".narrow.svg"  # in place of .svg: `a.narrow.svg` and `a.dark.narrow.svg`
#: light page -> dark page
DARK = {
    "#000000": INK,
    "#222222": INK,
    "#666666": "#9aa0a6",
    "#dddddd": "#3c4148",
    "#ffffff": "#14181e",
    "#0072b2": "#3ba3e0",
    "black": INK,
    "white": "#14181e",
}
_COLOR = re.compile(r"(?P<before>(?:fill|stroke|color)\s*[:=]\s*[\"']?)(?P<color>#[0-9a-fA-F]{3,6}|black|white)\b")


def dark_svg(svg: str) -> str:
    """Exchange the inks of an SVG drawn for a light page; what names no color was black and becomes light as well.

    Parameters
    ----------
    svg : str
        The image's text.

    Returns
    -------
    str
        The same drawing for a dark page.
    """

    def swap(match: re.Match[str]) -> str:
        color = match["color"].lower()
        if len(color) == 4:
            color = "#" + "".join(2 * digit for digit in color[1:])
        return match["before"] + DARK.get(color, _lifted(color) or match["color"])

    swapped = _COLOR.sub(swap, svg)
    return re.sub(r"<svg\b", f'<svg fill="{INK}" color="{INK}"', swapped, count=1) if _rootless(swapped) else swapped


def _lifted(color: str) -> str:
    """A middle gray with the contrast to the dark page that it had to the light one; empty for any other color."""
    if not color.startswith("#"):
        return ""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > 8 or not 80 <= green <= 140:
        return ""
    lifted = round(255 - 0.8 * green)
    return f"#{lifted:02x}{lifted:02x}{lifted:02x}"


def _rootless(svg: str) -> bool:
    root = re.search(r"<svg\b[^>]*>", svg)
    return bool(root) and not re.search(r"\s(fill|color)=", root[0])


def add_dark_figures(app: Sphinx, doctree: nodes.document) -> None:
    """Put a dark twin behind each SVG that a cell drew, and ask for missing texts (event ``doctree-read``)."""
    docname = app.env.docname
    done = executed(app, docname) if any(doctree.findall(is_code_cell)) else None
    sources = dict(app.env.temp_data.get("deepnotes_cells", []))
    for cell in list(doctree.findall(is_code_cell)):
        if "remove-cell" in cell["cell_metadata"].get("tags", ()):
            continue
        seconds = narrow_drawings(done.cells[cell["cell_index"]]) if done else iter(())
        for image in list(cell.findall(nodes.image)):
            if not image.get("alt"):
                number = cell["cell_index"]  # the hidden first cell makes this the number in the notebook, from 1
                logger.warning(
                    "%s: cell %s (`%s`): a figure has no text for those who cannot see it; "
                    "begin the cell with `#| fig-alt: what it shows`",
                    app.env.doc2path(docname, base=False),
                    number,
                    first_line(sources.get(number, "")),
                    location=docname,
                    type="deepnotes",
                    subtype="alt",
                )
            if not image["uri"].endswith(".svg"):
                continue
            _, path = app.env.relfn2path(image["uri"], docname)
            twin = Path(path).with_suffix(".dark.svg")
            twin.write_text(dark_svg(Path(path).read_text(encoding="utf-8")), encoding="utf-8")
            small = next(seconds, None)
            for drawing, svg in ((Path(path), small), (twin, small and dark_svg(small))):
                second = drawing.with_suffix(NARROW)
                if svg:
                    second.write_text(svg, encoding="utf-8")
                else:
                    second.unlink(missing_ok=True)
            dark = image.deepcopy()
            dark["uri"] = image["uri"][: -len(".svg")] + ".dark.svg"
            dark["ids"], dark["names"] = [], []
            # "dark-light" tells the theme to leave an image alone on a dark page; deepnotes.css shows one of the two.
            # The theme's own only-light and only-dark would hide the caption of a figure with both.
            image["classes"] = [*image["classes"], "dark-light", "dn-light"]
            dark["classes"] = [*dark["classes"], "dark-light", "dn-dark"]
            image.parent.insert(image.parent.index(image) + 1, dark)


def narrow_drawings(cell: dict) -> Iterator[str | None]:
    """The second drawing of each figure of an executed cell, in the order of the figures; None where there is none."""
    for output in cell.get("outputs", ()):
        if "image/svg+xml" in output.get("data", {}):
            yield output.get("metadata", {}).get(narrow.KEY, {}).get("svg")


def place_narrow(app: Sphinx, exception: Exception | None) -> None:
    """Put the second drawings beside the first ones, under the names that these have in the book (event ``build-finished``)."""
    if exception is not None or app.builder.format != "html":
        return
    for source, (_, name) in app.env.images.items():
        second = (Path(app.srcdir) / source).with_suffix(NARROW)
        if second.is_file():
            copyfile(second, (Path(app.outdir) / app.builder.imagedir / name).with_suffix(NARROW))


def is_code_cell(node: nodes.Node) -> bool:
    """Whether a node is what MyST-NB makes of a code cell."""
    return isinstance(node, nodes.Element) and node.get("nb_element") == "cell_code"


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("doctree-read", add_dark_figures, priority=400)  # before Sphinx collects the images (500)
    app.connect("build-finished", place_narrow, priority=500)  # before finish.py looks for them (550)
