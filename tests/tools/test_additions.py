"""CONTRIBUTING's three diffs do what it says: each touches one page and one file of tests, and the tests they bring pass."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT

DIFFS = re.findall(r"<summary>(.*?)</summary>\n\n```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)


def test_an_activation_a_loss_and_an_optimizer_are_shown():
    assert [title for title, _ in DIFFS] == ["A new activation", "A new loss", "A new optimizer"]


@pytest.mark.parametrize(("title", "diff"), DIFFS, ids=[title for title, _ in DIFFS])
def test_each_touches_one_page_and_one_file_of_tests(title, diff):
    page, tests = re.findall(r"^\+\+\+ (\S+)$", diff, re.MULTILINE)
    assert re.fullmatch(r"nbs/library/\w+\.ipynb", page) and re.fullmatch(r"tests/unit/test_\w+\.py", tests)
    assert not re.findall(r"^-(?!-- )", diff, re.MULTILINE), "nothing that is there must go"


@pytest.mark.slow("exports a copy of the tree and compiles what is new in it")
def test_applied_and_exported_they_pass_the_tests_that_they_bring(clone, sh):
    files, names = [], []
    for _, diff in DIFFS:
        done = subprocess.run(["git", "apply", "-p0", "-"], cwd=clone, input=diff.encode(), capture_output=True)
        assert done.returncode == 0, f"bring CONTRIBUTING's diff up to date: {done.stderr.decode()}"
        files += re.findall(r"^\+\+\+ (tests/\S+)$", diff, re.MULTILINE)
        names += re.findall(r"^\+def (test_\w+)", diff, re.MULTILINE)
    status, said = sh(sys.executable, clone / "tools" / "check.py", "--write", cwd=clone)
    assert status == 0, said
    assert re.findall(r"exported (\S+)", said) == ["deepnotes/activations.py", "deepnotes/optim.py", "deepnotes/outputs.py"]
    here = {**os.environ, "PYTHONPATH": str(clone)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", f"numpy and ({' or '.join(names)})"]
    done = subprocess.run(command, cwd=clone, env=here, capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(names)} passed" in done.stdout, done.stdout + done.stderr
