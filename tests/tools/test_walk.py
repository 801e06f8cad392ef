"""The walk of one value does not grow unnoticed: CONTRIBUTING's counts are bounds."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import walk


@pytest.fixture(scope="module")
def counted():
    "In a process of its own: what other tests leave behind is no part of the walk."
    said = subprocess.run([sys.executable, ROOT / "tools" / "walk.py"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^([\w ]+): ([\d,]+) calls / ([\d,]+) changes", said, re.M)
    return {name: (int(calls.replace(",", "")), int(changes.replace(",", ""))) for name, calls, changes in found}


@pytest.mark.parametrize("name", ["eager step", "later fit"])  # a first fit also compiles, if nobody has yet
def test_a_walk_is_as_short_as_contributing_says(counted, name):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stated = [int(number.replace(",", "")) for number in re.search(rf"^\| {name} \| ([\d,]+) / ([\d,]+) \|", text, re.M).groups()]
    for number, bound in zip(counted[name], stated, strict=True):
        assert 0 < number <= 1.1 * bound, "shorten the walk, or say in CONTRIBUTING what the new calls are for"


def test_a_walk_is_what_the_library_does_and_nothing_else():
    walk.dn.Tensor([1.0]).sum()                                     # a first time imports, and may compile
    calls = walk.calls_of(lambda: walk.dn.Tensor([1.0]).sum())
    assert calls[0][0].endswith("tape.py") and all(file.endswith(".py") or file.startswith("<deepnotes") for file, _ in calls)
