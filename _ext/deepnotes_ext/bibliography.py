"""The bibliography, labeled as the text cites it: author and year, not numbers that occur nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from string import ascii_lowercase

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


class AuthorYearLabels(BaseLabelStyle):
    """``Glorot and Bengio 2010``; letters tell apart what one group wrote in one year."""

    def format_labels(self, sorted_entries: list[Entry]) -> Iterator[str]:
        """A label for each entry, in their order."""
        names = [author_year(entry) for entry in sorted_entries]
        often, seen = Counter(names), Counter()
        for name in names:
            yield name if often[name] == 1 else name + ascii_lowercase[seen[name]]
            seen[name] += 1


def author_year(entry: Entry) -> str:
    """Up to two family names, else the first and *et al.*, then the year."""
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [" ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names])) for person in people]
    who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
    return f"{who or entry.key} {entry.fields.get('year', '')}".strip()


class AuthorYear(Plain):
    """Entries as in *plain*, with those labels."""

    default_label_style = AuthorYearLabels


def setup(app: Sphinx) -> None:
    """Make the style known under the name that ``bibtex_default_style`` gives."""
    register_plugin("pybtex.style.formatting", "deepnotes", AuthorYear)
