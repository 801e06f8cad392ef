"""Tests that take more than ten seconds say why: those that do not are named after a whole run."""

import re
from types import SimpleNamespace

import conftest


class Reporter:
    def __init__(self, durations, *reports):
        self.config = SimpleNamespace(option=SimpleNamespace(durations=durations))
        self.reports, self.said = reports, []

    def getreports(self, kind):
        return [report for report in self.reports if report.kind == kind]

    def section(self, title):
        self.said.append(title)

    write_line = section


def report(kind, name, seconds, *marks):
    return SimpleNamespace(kind=kind, nodeid=name, duration=seconds, keywords=dict.fromkeys(marks, 1))


def test_only_what_is_long_and_has_no_reason_is_named():
    reports = [report("", "a", 6.0), report("passed", "a", 5.0), report("passed", "b", 12.0, "slow"), report("failed", "c", 30.0),
               report("passed", "d", 9.0)]
    seen = Reporter(20, *reports)
    conftest.pytest_terminal_summary(seen)
    assert seen.said == ["longer than 10 s without a reason: 2", "30.0 s c", "11.0 s a"]
    part = Reporter(None, *reports)
    conftest.pytest_terminal_summary(part)
    assert part.said == []


def test_each_reason_is_a_sentence():
    reasons = [reason for path in (conftest.ROOT / "tests").rglob("test_*.py")
               for reason in re.findall(r"mark\.slow\((.*)\)$", path.read_text(encoding="utf-8"), re.M)]
    assert len(reasons) > 5 and all(re.fullmatch(r'"[^"]{20,}"', reason) for reason in reasons), reasons
