"""``{chapter-status}``: the chapters in numbers; how long all pages ran, when, and with which versions, in a fold."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from .execution import executed, versions
from .measures import HEADER, measure

_CHAPTER = re.compile(r"(?:^|/)\d\d[a-z]?_\w+$")
EXPLAINED = (
    "Words are those of the prose before the exercises, without formulas; open cells those whose code stands on the page, without those "
    "of solutions; a line is as wide as its columns. The height of code and page is reckoned from lines and figures, to about three "
    "hundredths of what a browser at 1280 pixels shows. An experiment is a comparison of two sides that were run on the same seeds and "
    "splits; the chapter Is it better? says how it is judged."
)


class StatusNode(nodes.General, nodes.Element):
    """Where the table goes once every chapter has run."""


class StatusDirective(SphinxDirective):
    """``{chapter-status}`` without arguments."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder and remember which page holds it."""
        _pages(self.env).add(self.env.docname)
        return [StatusNode()]


class FillStatus(SphinxPostTransform):
    """Replace the placeholder by the two tables."""

    default_priority = 8

    def run(self, **kwargs) -> None:
        """Build the tables from what MyST-NB recorded for each chapter."""
        for placeholder in list(self.document.findall(StatusNode)):
            rows, chapters, times, dates = [], [], {}, []
            for docname, data in sorted(NbMetadataCollector.get_doc_data(self.env).items()):
                told = data.get("exec_data")
                if not told or docname not in self.env.titles:
                    continue
                seconds = told["runtime"]
                when = datetime.fromtimestamp(told["mtime"], tz=UTC)
                uri = self.app.builder.get_relative_uri(self.env.docname, docname)
                link = nodes.reference("", self.env.titles[docname].astext(), refuri=uri, internal=True)
                times |= {} if seconds is None else {self.env.titles[docname].astext(): seconds}
                dates.append(f"{when:%Y-%m-%d}")
                runtime = "not measured" if seconds is None else f"{seconds:.1f} s"
                rows.append([link, runtime, f"{when:%Y-%m-%d %H:%M} UTC"])
                ran = executed(self.app, docname) if _CHAPTER.search(docname) else None
                if ran is not None:
                    chapters.append([link.deepcopy(), *measure(ran).row(), runtime])
            text = summary(times, dates) + "Built with " + ", ".join(f"{name} {v}" for name, v in versions().items()) + "."
            built: list[nodes.Node] = [nodes.paragraph("", text)]
            if chapters:
                built += [table(["Chapter", *HEADER, "Run time"], chapters), nodes.paragraph("", EXPLAINED)]
            if rows:
                head = f'<details class="dn-more"><summary>All {len(rows)} pages that run</summary>'
                built += [nodes.raw("", head, format="html"), table(["Chapter", "Run time", "Run at"], rows)]
                built.append(nodes.raw("", "</details>", format="html"))
            placeholder.replace_self(built)


def summary(times: dict[str, float], dates: list[str]) -> str:
    """What the table says, in two sentences; empty where nothing was measured.

    >>> summary({"Layers": 61.0, "Outputs": 9.5}, ["2026-11-02", "2026-11-01"])
    '2 pages ran in 1 min 10 s together, from 2026-11-01 to 2026-11-02. The longest is Layers with 61.0 s. '
    """
    if not times:
        return ""
    minutes, seconds = divmod(int(sum(times.values())), 60)
    first, last, longest = min(dates), max(dates), max(times, key=lambda title: times[title])
    days = f"on {last}" if first == last else f"from {first} to {last}"
    total = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    pages = "1 page" if len(times) == 1 else f"{len(times)} pages"
    return f"{pages} ran in {total} together, {days}. The longest is {longest} with {times[longest]:.1f} s. "


def table(header: list[str], rows: list[list[str | nodes.Node]]) -> nodes.table:
    """A docutils table from strings and inline nodes."""

    def line(cells: list[str | nodes.Node]) -> nodes.row:
        entries = []
        for cell in cells:
            content = nodes.Text(cell) if isinstance(cell, str) else cell
            entries.append(nodes.entry("", nodes.paragraph("", "", content)))
        return nodes.row("", *entries)

    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    group += nodes.thead("", line(header))
    group += nodes.tbody("", *map(line, rows))
    return nodes.table("", group, classes=["colwidths-auto"])


def refresh(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write the page again whenever a chapter ran (event ``env-updated``)."""
    return sorted(_pages(env) & env.found_docs) if NbMetadataCollector.new_exec_data(env) else []


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page (event ``env-purge-doc``)."""
    _pages(env).discard(docname)


def _pages(env: BuildEnvironment) -> set[str]:
    if not hasattr(env, "deepnotes_status_pages"):
        env.deepnotes_status_pages = set()
    return env.deepnotes_status_pages


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.add_node(StatusNode)
    app.add_directive("chapter-status", StatusDirective)
    app.add_post_transform(FillStatus)
    app.connect("env-updated", refresh)
    app.connect("env-purge-doc", purge)
