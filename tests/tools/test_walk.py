"""The walk of one value does not grow unnoticed: CONTRIBUTING's counts are bounds."""

import re
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import walk


@pytest.fixture(scope="module")
def counted():
    return {name: (len(calls), walk.changes_of_file(calls)) for name, calls in walk.walks().items()}


@pytest.mark.parametrize("name", ["eager step", "later fit"])  # a first fit also compiles, if nobody has yet
def test_a_walk_is_as_short_as_contributing_says(counted, name):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stated = [int(number.replace(",", "")) for number in re.search(rf"^\| {name} \| ([\d,]+) / ([\d,]+) \|", text, re.M).groups()]
    for number, bound in zip(counted[name], stated, strict=True):
        assert 0 < number <= 1.1 * bound, "shorten the walk, or say in CONTRIBUTING what the new calls are for"


def test_a_walk_is_what_the_library_does_and_nothing_else():
    calls = walk.calls_of(lambda: walk.dn.Tensor([1.0]).sum())
    assert calls[0][0].endswith("tape.py") and all(file.endswith(".py") or file.startswith("<deepnotes") for file, _ in calls)
