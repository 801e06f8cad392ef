"""`make` on a machine where something is missing: one sentence that says what to do, and nothing left half-made."""

import importlib.util
import re
import shutil
import sys
import urllib.request
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from types import SimpleNamespace

import pytest
from conftest import ROOT


@pytest.fixture
def tasks(monkeypatch):
    spec = importlib.util.spec_from_file_location("tasks", ROOT / "tools" / "tasks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.mark.slow("makes an environment twice, as the first stays half-made")
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


def test_an_environment_of_somebody_else_is_left_alone(clone, sh, tmp_path):
    theirs = tmp_path / "theirs"  # outside the tree, made by other means: no stamp of ours
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (theirs / "installed.txt").write_text("an afternoon of compiling")
    status, said = sh(sys.executable, clone / "tools" / "tasks.py", "env", cwd=clone, VENV=str(theirs), **OFFLINE)
    assert status == 1 and "was not made by `make`, or is broken" in said and "VENV=" in said
    assert sorted(p.name for p in theirs.iterdir()) == ["installed.txt", "pyvenv.cfg"]


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


@pytest.fixture
def tree(tasks, monkeypatch, tmp_path):
    """A library and two chapters whose runs are only written down: `.turn()` is `make test`'s half, `.book()` a build."""
    for folder in ("nbs", "deepnotes", "_build/html"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "constraints.txt", tmp_path)
    for name in ("_config.yml", "_toc.yml", "references.bib", "settings.ini", "_build/html/index.html"):
        (tmp_path / name).write_text("")
    for name in ("a", "b"):
        (tmp_path / "nbs" / f"{name}.ipynb").write_text(name)
    (tmp_path / "deepnotes" / "core.py").write_text("1")

    def fake_run(command, **kwargs):
        if command[1] == "build":
            status = tree.build() or 0
        else:
            name = Path(command[2]).name
            tree.ran.append(name)
            status = int(name in tree.broken)
        return SimpleNamespace(returncode=status, stdout=b"")

    def turn(everything=False):
        tree.ran.clear()
        tasks.test_chapters(everything)
        return sorted(tree.ran)

    def book(ran, meanwhile=lambda: None):
        def build():
            (tmp_path / "_build" / ".chapters-run").write_text("".join(f"nbs/{name}\n" for name in ran))
            meanwhile()

        tree.build = build
        tasks.book()

    tree = SimpleNamespace(root=tmp_path, ran=[], broken=set(), turn=turn, book=book)
    monkeypatch.delenv("DEEPNOTES_BACKEND", raising=False)
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(tasks, "HTML", tmp_path / "_build" / "html")
    monkeypatch.setattr(tasks.subprocess, "run", fake_run)
    return tree


def test_changed_chapters_run_again_and_unchanged_ones_do_not(tree, monkeypatch):
    """A chapter that changed, or whose library changed, is run anew; a failure is not remembered as a pass."""
    assert tree.turn() == ["a.ipynb", "b.ipynb"]
    assert tree.turn() == []
    (tree.root / "nbs" / "b.ipynb").write_text("b, revised")
    assert tree.turn() == ["b.ipynb"]
    (tree.root / "deepnotes" / "core.py").write_text("2")
    tree.broken.add("a.ipynb")
    with pytest.raises(SystemExit):
        tree.turn()
    assert sorted(tree.ran) == ["a.ipynb", "b.ipynb"]
    tree.broken.clear()
    assert tree.turn() == ["a.ipynb"]
    assert tree.turn(everything=True) == ["a.ipynb", "b.ipynb"]
    monkeypatch.setenv("DEEPNOTES_BACKEND", "numpy")
    assert tree.turn() == ["a.ipynb", "b.ipynb"]


def test_what_the_book_has_just_run_is_not_run_again(tree):
    tree.book(ran=["a"])  # b came from the build's cache
    assert tree.turn() == ["b.ipynb"]
    (tree.root / "nbs" / "a.ipynb").write_text("a, with a cell that may fail: raises-exception")
    tree.book(ran=["a", "b"], meanwhile=lambda: (tree.root / "nbs" / "b.ipynb").write_text("b, revised"))
    assert tree.turn() == ["a.ipynb", "b.ipynb"]  # b as it stands now has not run yet
    (tree.root / "deepnotes" / "core.py").write_text("2")
    tree.book(ran=["b"])
    (tree.root / "deepnotes" / "core.py").write_text("3")
    assert tree.turn() == ["a.ipynb", "b.ipynb"]


def test_a_build_that_fails_vouches_for_no_chapter(tree):
    def fail():
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        tree.book(ran=["a", "b"], meanwhile=fail)
    assert tree.turn() == ["a.ipynb", "b.ipynb"]


def test_chapters_that_measure_come_last_and_one_by_one(tree):
    (tree.root / "nbs" / "a.ipynb").write_text("time.perf_counter()")
    tree.turn()
    assert tree.ran == ["b.ipynb", "a.ipynb"]


def test_the_whole_suite_runs_on_all_cores_and_chosen_tests_as_they_are_chosen(tree, tasks, monkeypatch):
    commands = []
    monkeypatch.setattr(tasks, "run", lambda *command: commands.append(command[3:]))
    for cores, arguments in (("3", []), ("1", []), ("3", ["-k", "name"]), ("1", ["--cov"])):
        monkeypatch.setenv("DEEPNOTES_JOBS", cores)
        tasks.test(arguments)
    slowest = ("--durations=20", "--durations-min=1")
    assert commands == [("-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", *slowest), slowest, ("-k", "name"),
                        (*slowest, "--cov=deepnotes", "--cov-report=term:skip-covered")]


def test_the_lowest_versions_are_those_of_pyproject(tasks):
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(line for extra in ("sklearn", "parallel", "dask", "mpi", "test") for line in extras[extra])]
    declared = [line for line in named if not line.startswith("deepnotes[")]
    assert tasks.lowest() == [re.split("[,;]", line)[0].replace(">=", "==") for line in declared]
    assert all(">=" in line for line in declared)
    assert next(line for line in declared if line.startswith("numba")).partition(",<")[2], "numba has no upper bound"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("numpy", "numba"):
        version = next(line for line in tasks.lowest() if line.startswith(name + "==")).partition("==")[2]
        assert f"{name} {version}" in readme


def test_the_newest_numba_that_is_declared_is_the_one_that_is_tested(tasks):
    (pin,) = tasks.pinned("numba")
    minor = int(pin.split(".")[1])
    assert f'"numba>=0.62,<0.{minor + 1}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["test-lowest", "test-bare", "test-older-cpu"])
def test_commands_at_the_edges_stand_where_one_looks_for_them(command, tasks, monkeypatch, sh):
    for name in ("Makefile", "CONTRIBUTING.md"):
        assert f"make {command}" in (ROOT / name).read_text(encoding="utf-8")
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert command in workflow
    ran = []
    monkeypatch.setattr(tasks, "environment", lambda: None)
    monkeypatch.setattr(tasks, "elsewhere", lambda name, python, packages: ran.append(packages) or "python-elsewhere")
    monkeypatch.setattr(tasks, "run", lambda *what, **options: ran.append((what, options["env"])))
    monkeypatch.setattr(tasks.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(tasks, "BIN", Path(sys.executable).parent)
    monkeypatch.setattr(tasks.sys, "argv", ["tasks.py", command, "-q"])
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    tasks.main()
    what, env = ran[-1]
    assert "pytest" in what and what[-1] == "-q"
    if command == "test-lowest":
        assert ran[0] == tasks.lowest() and what[0] == "python-elsewhere"
        ignored = [Path(option.partition("=")[2]) for option in map(str, what) if option.startswith("--ignore=")]
        assert all(path.exists() for path in ignored)
        kept = {p.name for p in (ROOT / "tests").rglob("test_*.py") if not any(p.is_relative_to(path) for path in ignored)}
        assert {"test_kernels.py", "test_capture.py", "test_checkpoints.py"} <= kept and "test_ext_book.py" not in kept
    elif command == "test-bare":
        names = {line.partition("==")[0] for line in ran[0]}
        assert names == {"numpy", "tqdm", "pytest", "hypothesis", "mpmath"} and env["DEEPNOTES_BACKEND"] == "numpy"
        assert all(Path(file).exists() for file in what[3:-1])
    else:
        assert env["NPY_DISABLE_CPU_FEATURES"] is not None and env["OPENBLAS_CORETYPE"]


def test_every_task_can_be_made():
    text = (ROOT / "tools" / "tasks.py").read_text(encoding="utf-8")
    listed = re.findall(r'"([\w-]+)"', re.search(r"tasks = \[(.*?)\]", text, re.DOTALL)[1])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = {name for rule in re.findall(r"^([a-z][a-z -]+):", makefile, re.M) for name in rule.split()}
    assert "test-older-cpu" in listed
    assert set(listed) <= rules


def test_without_a_browser_the_status_says_that_nothing_was_tried_and_the_words_name_what_to_do(tasks, monkeypatch, capsys):
    asked = []
    monkeypatch.delenv("DEEPNOTES_CHROMIUM", raising=False)
    monkeypatch.setattr(tasks.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(tasks.os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(tasks, "attempt", lambda *command, **_: asked.append([str(part) for part in command]))
    with pytest.raises(SystemExit) as ended:
        tasks.find_browser()
    assert ended.value.code == tasks.ABSENT == 75
    assert "apt install chromium" in capsys.readouterr().err
    assert [command[-1] for command in asked] == ["-q", "chromium", "chromium"]


def test_a_command_that_waits_for_a_network_is_given_up(tasks):
    assert tasks.attempt(sys.executable, "-c", "")
    assert not tasks.attempt(sys.executable, "-c", "raise SystemExit(3)")
    assert not tasks.attempt("no-such-program-at-all")
    assert not tasks.attempt(sys.executable, "-c", "import time; time.sleep(600)", minutes=0.05)
