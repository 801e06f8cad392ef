"""MyST text as plain Markdown: for notebooks that are opened where no Sphinx runs.

A role becomes what the page shows for it (a number, a title, "Fig. 4.2"), an equation keeps its number, a directive becomes
Markdown that every notebook viewer knows. What the book knows about labels and numbers comes from Sphinx's environment.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pybtex.database import parse_file
from sphinx.environment import BuildEnvironment

from .numbers import as_prose

ROLE = re.compile(r"\{([a-z]+(?::[a-z]+)?)\}`([^`]+)`")
TARGET = re.compile(r"(?P<title>.*?)\s*<(?P<label>[^>]+)>", re.DOTALL)
FENCE = re.compile(r"(`{3,}|:{3,})\{([\w-]+)\} ?(.*)$")
OPTION = re.compile(r":([\w-]+): ?(.*)$")
#: what a figure, an equation or an exercise is called in a sentence
NUMBERED = {"figure": "Fig. {}", "table": "Table {}", "code-block": "Listing {}", "displaymath": "({})"}


def citations(bibliography: Path) -> dict[str, tuple[str, str]]:
    """Who wrote each entry of the bibliography, as a sentence names them, and when."""
    said = {}
    for key, entry in parse_file(str(bibliography)).entries.items():
        people = entry.persons.get("author") or entry.persons.get("editor") or []
        last = [re.sub(r"[{}]", "", " ".join(p.prelast_names + p.last_names)) for p in people]
        who = f"{last[0]} et al." if len(last) > 2 else " and ".join(last) or key
        said[key] = who, entry.fields.get("year", "")
    return said


def references(env: BuildEnvironment) -> dict[str, str]:
    """What the pages say for each label: titles of sections and pages, numbers of figures, equations and exercises."""
    std = env.get_domain("std")
    said = {
        label: env.titles[docname].astext() for label, (docname, _) in std.anonlabels.items() if docname in env.titles
    }
    said |= {label: title for label, (_, _, title) in std.labels.items()}
    said |= {docname.rpartition("/")[2]: title.astext() for docname, title in env.titles.items()}
    for kinds in env.toc_fignumbers.values():
        for kind, numbers in kinds.items():
            for label, number in numbers.items():
                text = ".".join(map(str, number))
                said[label.removeprefix("equation-")] = NUMBERED.get(kind, "{}").format(text)
    return said


@dataclass
class Words:
    """Turns the text of one chapter into plain Markdown.

    Parameters
    ----------
    said : dict of str to str
        What stands for each label, as :func:`references` finds it.
    cited : dict of str to (str, str)
        Authors and year of each source, as :func:`citations` finds them.
    glued : dict of str to str
        What the chapter's cells glued, by name.
    page : str
        The address of the chapter's page.
    missing : list of str
        Filled with what could not be resolved.
    """

    said: dict[str, str]
    cited: dict[str, tuple[str, str]]
    glued: dict[str, str]
    page: str
    missing: list[str] = field(default_factory=list)

    def plain(self, text: str) -> str:
        """The text with roles, labels and equation numbers resolved."""
        text = ROLE.sub(self._role, text)
        text = re.sub(r"(\$\$.*?)\$\$ *\(([\w-]+)\)", self._equation, text, flags=re.DOTALL)
        text = re.sub(r"^\(([\w-]+)\)=\n", r'<a id="\1"></a>\n\n', text, flags=re.MULTILINE)
        # links to other chapters: the reader has this notebook alone
        base = self.page.rpartition("/")[0]
        return re.sub(r"\]\((?!\w+:)([\w./-]+)\.(?:ipynb|md)(#[\w-]+)?\)", rf"]({base}/\1.html\2)", text)

    def _equation(self, match: re.Match) -> str:
        number = self.said.get(match[2], "").strip("()")
        return f"{match[1].rstrip()} \\tag{{{number}}} $$"

    def _role(self, match: re.Match) -> str:
        role, target = match[1], " ".join(match[2].split())
        found = TARGET.fullmatch(target)
        title, label = (found["title"], found["label"]) if found else (None, target)
        if role.startswith("glue"):
            return self._number(target)
        if role.startswith("cite"):
            return self._cite(role, target)
        if role.startswith("py:"):
            return title or f"`{label.lstrip('~').split('.')[-1] if role != 'py:mod' else label}`"
        if role == "term":
            return title or label
        return self._reference(role, title, label)

    def _reference(self, role: str, title: str | None, label: str) -> str:
        words = self.said.get(label) or self.said.get(label.rpartition("/")[2].removesuffix(".ipynb"))
        if words is None:
            self.missing.append(f"{role} {label}")
            return title or label
        if title and "%s" in title:
            return title.replace("%s", re.sub(r"\D*([\d.]+)\D*", r"\1", words))
        return title or words

    def _number(self, target: str) -> str:
        name, _, spec = target.partition(":")
        if name not in self.glued:
            self.missing.append(f"glue {name}")
            return "…"
        try:
            value = ast.literal_eval(self.glued[name])
        except (ValueError, SyntaxError):
            value = self.glued[name]
        return as_prose(format(value, spec) if spec and isinstance(value, int | float) else str(value))

    def _cite(self, role: str, target: str) -> str:
        found = [self.cited.get(key.strip(), (key.strip(), "")) for key in target.split(",")]
        if role == "cite:t":
            return ", ".join(f"{who} [{year}]" for who, year in found)
        return "[" + "; ".join(f"{who}, {year}" for who, year in found) + "]"

    def pieces(self, text: str) -> Iterator[tuple[str, str]]:
        """A Markdown cell, cut where exercises and solutions begin and end.

        Yields
        ------
        (kind, text) : (str, str)
            What begins here ("", "exercise", "exercise-end", "solution", "solution-end") and its text, not yet plain.
        """
        lines, kind, kept = text.split("\n"), "", []
        while lines:
            line = lines.pop(0)
            start = FENCE.match(line)
            if not start:
                kept.append(line)
                continue
            fence, name, title = start.groups()
            options, body = _take_block(lines, fence)
            if name in ("exercise-start", "exercise-end", "solution-start", "solution-end"):
                yield kind, "\n".join(kept).strip("\n")
                kind, kept = name.removesuffix("-start"), self._head(name, title, options, body)
            else:
                kept += self._block(name, title, options, body)
        yield kind, "\n".join(kept).strip("\n")

    def _head(self, name: str, title: str, options: dict[str, str], body: list[str]) -> list[str]:
        if name == "exercise-start":
            return [f"### Exercise {self.said.get(options.get('label', ''), '')}: {title}", "", *body]
        if name == "solution-start":
            return [f"### Solution of exercise {self.said.get(title.strip(), '')}", "", *body]
        return body

    def _block(self, name: str, title: str, options: dict[str, str], body: list[str]) -> list[str]:
        if name == "raw":
            widget = "dn-widget" in "\n".join(body)
            return ["", f"*Here the page has [a figure to play with]({self.page}).*", ""] if widget else []
        if name == "claim":
            return ["", f"> **{title}** *{options.get('verdict', '')}*", ">", *(f"> {line}" for line in body), ""]
        if name in ("born-here", "index"):
            return []
        return ["", *([f"**{title}**", ""] if title else []), *body, ""]  # notes, hints, tips: their text


def _take_block(lines: list[str], fence: str) -> tuple[dict[str, str], list[str]]:
    """Take a directive's options and body off the front of the lines."""
    options: dict[str, str] = {}
    body: list[str] = []
    while lines:
        line = lines.pop(0)
        if line.strip() == fence:
            break
        option = OPTION.match(line)
        if option and not body:
            options[option[1]] = option[2]
        else:
            body.append(line)
    return options, body
