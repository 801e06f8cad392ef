"""Each command of the README is run, as it stands there."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
HERE = {"VENV": sys.prefix}  # the environment that runs the tests: the README's commands would make the same one


def test_these_are_the_commands_that_the_tests_below_run():
    assert COMMANDS == [
        "git clone https://github.com/deepnotes-book/deepnotes",
        "cd deepnotes",
        "make book",
        "make test",
        "make serve",
        "make lab",
        'pip install "deepnotes[sklearn] @ git+https://github.com/deepnotes-book/deepnotes"',
    ]
    assert [language for language, _ in BLOCKS if language != "sh"] == ["python"]


@pytest.fixture
def published(clone):
    """git, with the repository's address standing for a copy of this tree."""
    address = COMMANDS[0].split()[-1]
    instead = f"url.{clone.as_uri()}.insteadOf"
    return {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": instead, "GIT_CONFIG_VALUE_0": address}


def test_clone_gives_the_tree(published, sh, tmp_path):
    status, said = sh(*shlex.split(COMMANDS[0]), cwd=tmp_path, **published)
    assert status == 0, said
    assert (tmp_path / "deepnotes" / "Makefile").exists()


def test_make_names_a_python_that_does_not_exist(clone, sh):
    status, said = sh("make", "book", "PYTHON=python9.9", cwd=clone)
    assert status != 0 and "no 'python9.9' here" in said


def test_make_book_builds_the_book_and_says_where_it_is(sh):
    status, said = sh("make", "book", **HERE)
    assert status == 0, said
    index = re.search(r"the book is at (\S+)", said).group(1)
    landing = re.search(r"url=(\S+?)\"", Path(index).read_text(encoding="utf-8")).group(1)  # the front page points to it
    assert "The whole of it on one page" in (Path(index).parent / landing).read_text(encoding="utf-8")


@pytest.mark.slow("runs chapters and tests in an environment that it makes")
def test_make_test_runs_the_chapters_and_the_tests(sh):
    # one test stands for all: this one runs inside the others
    status, said = sh("make", "test", PYTEST_ADDOPTS="-k test_imports_that_go_down_pass", **HERE)
    assert status == 0, said
    assert "nbdev_test" in said and re.search(r"1 passed", said)


def follow(command, pattern, **env):
    """Start a server, hand back the first match of what it prints, and end it with all it started."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               encoding="utf-8", env={**os.environ, **HERE, **env}, start_new_session=True)
    said = ""
    try:
        for line in process.stdout:
            said += line
            if found := re.search(pattern, line):
                yield found.group(0)
                return
        raise AssertionError(f"it ended without a line that matches {pattern}:\n{said}")
    finally:
        os.killpg(process.pid, 15)
        process.wait(20)


def test_make_serve_shows_the_book(sh):
    for address in follow(["make", "serve", "PORT=0"], r"http://127\.0\.0\.1:\d+/"):
        page = urllib.request.urlopen(address + "nbs/index.html", timeout=30).read().decode()
        assert "The whole of it on one page" in page


def test_make_lab_opens_on_the_chapters(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = f"ARGS=--no-browser --allow-root --ip 127.0.0.1 --ServerApp.port={port} --IdentityProvider.token=x"
    for _ in follow(["make", "lab", arguments], rf"http://127\.0\.0\.1:{port}/lab", JUPYTER_CONFIG_DIR=str(tmp_path)):
        listing = fetch(f"http://127.0.0.1:{port}/api/contents?token=x")
        assert "01_representation.ipynb" in listing


def fetch(address, seconds=60):
    """A page of a server that has announced its address and may take a moment until it listens there."""
    end = time.monotonic() + seconds
    while True:
        try:
            return urllib.request.urlopen(address, timeout=30).read().decode()
        except URLError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_pip_install_from_the_repository(published, sh, tmp_path):
    """The line as it stands, except that the dependencies are here already and no network is used."""
    install = [sys.executable, "-m", *shlex.split(COMMANDS[-1])]
    status, said = sh(*install, "--no-deps", "--no-build-isolation", "--target", str(tmp_path / "site"), **published)
    assert status == 0, said
    assert (tmp_path / "site" / "deepnotes" / "training" / "trainer.py").exists()


def test_the_python_example_learns_the_digits(tmp_path):
    (example,) = [text for language, text in BLOCKS if language == "python"]
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"test accuracy (0\.\d+)", done.stdout).group(1)) > 0.95


def test_the_table_of_chapters_is_complete_and_its_links_lead_somewhere():
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert [link for link in linked if not (ROOT / link).exists()] == []
    chapters = sorted(p.name for p in (ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))  # 02b and its like are their sub-pages
    assert sorted(link.split("/")[1] for link in linked if link.startswith("nbs/")) == chapters
    modules = [module.stem for module in ROOT.glob("deepnotes/[!_]*.py")]
    assert [name for name in modules if f"`deepnotes.{name}`" not in README] == []
