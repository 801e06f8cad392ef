"""`make` on a machine where something is missing: one sentence that says what to do, and nothing left half-made."""

import importlib.util
import shutil
import sys
import urllib.request
from subprocess import PIPE, STDOUT, Popen

import pytest
from conftest import ROOT


@pytest.fixture
def tasks(monkeypatch):
    spec = importlib.util.spec_from_file_location("tasks", ROOT / "tools" / "tasks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": "/dev/null"}


def test_without_a_network_it_says_so_and_the_next_run_starts_anew(clone, sh):
    venv = clone / ".venv"
    task = [sys.executable, clone / "tools" / "tasks.py", "env"]
    status, said = sh(*task, cwd=clone, VENV=str(venv), **OFFLINE)
    assert status == 1 and "If the network is down, run the same command again" in said
    assert not (venv / ".deepnotes-environment").exists(), "a half-made environment must not look finished"
    status, said = sh(*task, cwd=clone, VENV=str(venv), **OFFLINE)
    assert status == 1 and "half-made or broken: making it anew" in said


def test_a_folder_that_is_no_environment_is_left_alone(clone, sh):
    mine = clone / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("three years of work")
    status, said = sh(sys.executable, clone / "tools" / "tasks.py", "env", cwd=clone, VENV=str(mine))
    assert status == 1 and "is not a virtual environment" in said
    assert (mine / "chapter.txt").read_text() == "three years of work"


def test_an_old_python_looks_for_a_newer_one_and_says_what_is_missing(tasks, monkeypatch, capsys):
    monkeypatch.setattr(tasks.sys, "version_info", (3, 9, 1))
    monkeypatch.setattr(tasks.shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setattr(tasks, "version_of", lambda path: (3, 12) if path.endswith("3.12") else None)
    assert tasks.find_python() == "/opt/python3.12"
    monkeypatch.setattr(tasks.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        tasks.find_python()
    assert ended.value.code == 1
    assert "needs Python 3.11 or newer and found only 3.9" in capsys.readouterr().err


def test_serve_before_book_says_what_to_run(clone, sh):
    status, said = sh(sys.executable, clone / "tools" / "tasks.py", "serve", cwd=clone)
    assert status == 1 and "run `make book` first" in said


def test_serve_hands_out_the_built_book(clone):
    page = clone / "_build" / "html" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("the book")
    command = [sys.executable, str(clone / "tools" / "tasks.py"), "serve", "--port", "0"]
    with Popen(command, cwd=clone, stdout=PIPE, stderr=STDOUT, text=True, encoding="utf-8") as server:
        try:
            address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
            assert urllib.request.urlopen(address, timeout=10).read() == b"the book"
        finally:
            server.kill()


def test_changed_chapters_run_again_and_unchanged_ones_do_not(tasks, monkeypatch, tmp_path):
    """A chapter that changed, or whose library changed, is run anew; a failure is not remembered as a pass."""
    for folder in ("nbs", "deepnotes"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    for name in ("a", "b"):
        (tmp_path / "nbs" / f"{name}.ipynb").write_text(name)
    (tmp_path / "deepnotes" / "core.py").write_text("1")
    ran, broken = [], set()

    def fake_run(command, **kwargs):
        name = command[2].rsplit("/", 1)[-1].rsplit("\\", 1)[-1]
        ran.append(name)
        return type("Done", (), {"returncode": int(name in broken)})

    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(tasks.subprocess, "run", fake_run)

    def turn():
        ran.clear()
        tasks.test_chapters(everything=False)
        return list(ran)

    assert turn() == ["a.ipynb", "b.ipynb"]
    assert turn() == []
    (tmp_path / "nbs" / "b.ipynb").write_text("b, revised")
    assert turn() == ["b.ipynb"]
    (tmp_path / "deepnotes" / "core.py").write_text("2")
    broken.add("a.ipynb")
    with pytest.raises(SystemExit):
        turn()
    assert ran == ["a.ipynb", "b.ipynb"]
    broken.clear()
    assert turn() == ["a.ipynb"]
