"""Pages that gather what the chapters hold: every exercise, and every claim of the notes with its verdict.

A chapter states a claim where it is settled::

    ```{claim} ReLU is the default choice
    :verdict: holds if
    :figure: fig-depth
    Of 5 seeds, {glue}`3.trained` trained; what was measured, in a sentence.
    ```

The verdict is one of ``holds``, ``holds if`` and ``corrected``. ``{claim-index}`` makes the table of all of them, with
the numbers of their figures; a claim with ``:of: the book`` is one that the notes did not make and stands in
``{claim-index} the book``. ``{exercise-index}`` lists every exercise. All are filled when all chapters are read.

A title of an exercise has one form, ``★★ What is asked``: stars first, and behind the title ``(open)`` if nobody knows
the whole answer. An exercise without a solution has to be open. What departs from this is a warning.
"""

from __future__ import annotations

import re

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .status import table

logger = logging.getLogger(__name__)

VERDICTS = ("holds", "holds if", "corrected")
SOURCES = ("the notes", "the book")
_EXERCISE = re.compile(r"(?P<stars>★{1,3}) (?P<title>[^★]+?)(?P<open> \(open\))?")


class ClaimDirective(SphinxDirective):
    """``{claim}``: a claim of the notes, its verdict, and what was measured."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {
        "verdict": lambda value: directives.choice(value, VERDICTS),
        "figure": directives.unchanged,
        "of": lambda value: directives.choice(value, SOURCES),
        "name": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Make the box, and remember it for the table."""
        if "verdict" not in self.options:
            raise self.error(f"a claim needs `:verdict:`, one of {', '.join(VERDICTS)}")
        verdict = self.options["verdict"]
        text = " ".join(self.arguments[0].split())
        box = nodes.admonition(classes=["claim", "claim-" + verdict.replace(" ", "-")])
        self.set_source_info(box)
        identifier = f"claim-{nodes.make_id(text)}"
        box["ids"].append(identifier)
        words, messages = self.state.inline_text(text, self.lineno)
        box += nodes.title("", "", *words, nodes.Text(" "), nodes.inline("", verdict, classes=["verdict"]))
        self.state.nested_parse(self.content, self.content_offset, box)
        entry = {"id": identifier, "text": words_of(words), "verdict": verdict}
        entry |= {"figure": self.options.get("figure", ""), "of": self.options.get("of", SOURCES[0])}
        _claims(self.env).setdefault(self.env.docname, []).append(entry)
        return [box, *messages]


class Index(nodes.General, nodes.Element):
    """Where a table goes; ``kind`` says which."""


class IndexDirective(SphinxDirective):
    """``{claim-index}``, also with ``the book`` behind it, and ``{exercise-index}``."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder."""
        _pages(self.env).add(self.env.docname)
        node = Index(kind=self.name.partition("-")[0], of=(self.arguments or SOURCES)[0])
        self.set_source_info(node)
        return [node]


class FillIndexes(SphinxPostTransform):
    """Replace the placeholders by tables."""

    default_priority = 8

    def run(self, **kwargs) -> None:
        """Build each table from what the chapters left on the environment."""
        for node in list(self.document.findall(Index)):
            if node["kind"] == "claim":
                header, rows = ["Claim", "Chapter", "Verdict", "Shown in"], self.claims(node)
            else:
                header, rows = ["", "Exercise", "Chapter", "Solution"], self.exercises()
            words = f"No chapter holds {'a claim' if node['kind'] == 'claim' else 'an exercise'} yet."
            node.replace_self(table(header, rows) if rows else nodes.paragraph("", words))

    def link(self, docname: str, anchor: str, text: str) -> nodes.reference:
        """A link from this page."""
        uri = self.app.builder.get_relative_uri(self.env.docname, docname) + (f"#{anchor}" if anchor else "")
        return nodes.reference("", text, refuri=uri, internal=True)

    def claims(self, where: nodes.Element) -> list[list[str | nodes.Node]]:
        """One row for each claim, in the book's order."""
        rows = []
        for docname, claims in sorted(_claims(self.env).items()):
            chapter = self.env.titles[docname].astext()
            for claim in claims:
                if claim["of"] != where["of"]:
                    continue
                figure: str | nodes.Node = ""
                if claim["figure"]:
                    numbers = self.env.toc_fignumbers.get(docname, {}).get("figure", {})
                    if claim["figure"] in numbers:
                        number = ".".join(map(str, numbers[claim["figure"]]))
                        figure = self.link(docname, claim["figure"], f"Fig. {number}")
                    else:
                        message = "claim %r of %s names a figure that the chapter does not have: %s"
                        logger.warning(
                            message, claim["text"], docname, claim["figure"], location=where, type="deepnotes"
                        )
                verdict = nodes.inline("", claim["verdict"], classes=["verdict", *_class(claim["verdict"])])
                rows.append(
                    [self.link(docname, claim["id"], claim["text"]), self.link(docname, "", chapter), verdict, figure]
                )
        return rows

    def exercises(self) -> list[list[str | nodes.Node]]:
        """One row for each exercise, in the book's order."""
        registry = getattr(self.env, "sphinx_exercise_registry", {})
        solutions = {}
        for label, entry in registry.items():
            if "solution" in entry["type"]:
                solutions[entry["node"].get("target_label", "")] = (entry["docname"], label)
        found = []
        for label, entry in registry.items():
            if "exercise" not in entry["type"] or "end" in entry["type"]:
                continue
            docname = entry["docname"]
            number = self.env.toc_fignumbers.get(docname, {}).get("exercise", {}).get(label, ())
            found.append((docname, tuple(number), label, entry["node"]))
        rows = []
        for docname, number, label, node in sorted(found, key=lambda item: item[:3]):
            subtitle = next((child.astext() for child in node.findall() if "subtitle" in type(child).__name__), "")
            if subtitle.startswith("("):  # sphinx_exercise puts parentheses around a title when it has resolved it
                subtitle = subtitle[1:-1]
            parts = read_exercise_title(subtitle)
            if parts is None:
                message = "exercise %s is called %r: write its stars first, as in `★★ What is asked`"
                logger.warning(message, label, subtitle, location=docname, type="deepnotes", subtype="exercise")
                parts = "", subtitle, False
            stars, title, unknown = parts
            if not unknown and label not in solutions:
                message = "exercise %s has no solution: write one, or `(open)` behind its title"
                logger.warning(message, label, location=docname, type="deepnotes", subtype="exercise")
            solution = self.link(*solutions[label], "solution") if label in solutions else ""
            if unknown:
                solution = nodes.inline("", "", nodes.Text("open"), *([nodes.Text(", "), solution] if solution else []))
            name = " ".join(filter(None, [".".join(map(str, number)), title])) or label
            chapter = self.link(docname, "", self.env.titles[docname].astext())
            rows.append(
                [nodes.inline("", stars, classes=["stars"]), self.link(docname, label, name), chapter, solution]
            )
        return rows


def read_exercise_title(text: str) -> tuple[str, str, bool] | None:
    """Stars, title and whether it is open; None if the title is not written ``★★ What is asked`` or ``… (open)``.

    >>> read_exercise_title("★★★ How many? (open)")
    ('★★★', 'How many?', True)
    """
    match = _EXERCISE.fullmatch(text)
    return (match["stars"], match["title"], bool(match["open"])) if match else None


def words_of(parts: list[nodes.Node]) -> str:
    """What a title says, as a table without mathematics shows it."""
    return "".join(part.astext() for part in parts)


def _class(verdict: str) -> list[str]:
    return ["verdict-" + verdict.replace(" ", "-")]


def refresh(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write the pages with tables again (event ``env-updated``); they are few and small."""
    return sorted(_pages(env) & env.found_docs)


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page (event ``env-purge-doc``)."""
    _claims(env).pop(docname, None)
    _pages(env).discard(docname)


def _claims(env: BuildEnvironment) -> dict[str, list[dict[str, str]]]:
    if not hasattr(env, "deepnotes_claims"):
        env.deepnotes_claims = {}
    return env.deepnotes_claims


def _pages(env: BuildEnvironment) -> set[str]:
    if not hasattr(env, "deepnotes_overview_pages"):
        env.deepnotes_overview_pages = set()
    return env.deepnotes_overview_pages


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.add_node(Index)
    app.add_directive("claim", ClaimDirective)
    app.add_directive("claim-index", IndexDirective)
    app.add_directive("exercise-index", IndexDirective)
    app.add_post_transform(FillIndexes)
    app.connect("env-updated", refresh)
    app.connect("env-purge-doc", purge)
