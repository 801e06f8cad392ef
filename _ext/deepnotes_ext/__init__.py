"""The Sphinx extension behind the Deep Notes book.

Each module here does one thing and can be read alone:

``settings``    what ``settings.ini`` says (repository, branch, version) becomes the book's configuration
``notebooks``   nbdev's ``#|`` directives become cell tags; the sources stay as they are
``execution``   what an executed chapter depends on, and what is said when a cell raises
``ahead``       chapters run before the pages are read, several at a time, measurements alone
``formulas``    a formula that cannot be set is a warning
``figures``     figures that read well on a light and on a dark page
``api``         one reference page per module, and links between a docstring and the section it was born in
``bibliography``  entries labeled by author and year
``finish``      the last pass over what was written: code that fits, weight, names, descriptions (with ``code``, ``cards``)
``numbers``     a number that a cell computed, written as prose, with where it comes from
``offline``     no page loads anything from another host
``paper``       what `make pdf` prints, and the entries of the download menu
``overview``    the index of exercises, and the table of claims with their verdicts
``live``        what a page's cells need in order to run in the browser
``student``     a notebook to work in for each chapter, and the buttons that open it; ``words`` makes its text plain
``status``      the tables of what a reader meets in each chapter, of run times and versions
``measures``    what these count
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

from . import (
    ahead,
    api,
    bibliography,
    execution,
    figures,
    finish,
    formulas,
    live,
    notebooks,
    numbers,
    offline,
    overview,
    settings,
    status,
    student,
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register every part with Sphinx."""
    for part in (
        settings,
        api,
        bibliography,
        execution,
        ahead,
        notebooks,
        figures,
        formulas,
        numbers,
        finish,
        offline,
        overview,
        status,
        student,
        live,
    ):
        part.setup(app)
    # Bump env_version when what is stored on the environment changes shape: old builds are then read afresh.
    return {"version": "1", "env_version": 2, "parallel_read_safe": False, "parallel_write_safe": True}
