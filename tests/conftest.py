"""What several test files share."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# The README's commands are for a POSIX shell and make; on Windows the same tasks are `python tools/tasks.py …`.
# It has neither owners nor modes that the cache could look at, and does not fork.
collect_ignore = ["tools/test_readme.py", "unit/compiler/test_cache_security.py", "unit/compiler/test_life.py"] if os.name == "nt" else []

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent  # the environment's own programs: jupyter-book, nbdev_export, ruff …


LONG = 10  # seconds


def pytest_terminal_summary(terminalreporter):
    """After a whole run: which tests took longer than ten seconds and are not marked `slow("why")`."""
    if terminalreporter.config.option.durations is None:
        return
    seconds, reasoned = {}, set()
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed") + terminalreporter.getreports(""):
        seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration
        if "slow" in report.keywords:
            reasoned.add(report.nodeid)
    long = sorted((name for name in seconds if seconds[name] > LONG and name not in reasoned), key=seconds.get, reverse=True)
    terminalreporter.section(f"longer than {LONG} s without a reason: {len(long)}")
    for name in long:
        terminalreporter.write_line(f"{seconds[name]:.1f} s {name}")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard():
    """A shell that runs the tests in the background has Python ignore Ctrl-C, which some tests press themselves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clone(tmp_path):
    """A git repository of its own that holds the working tree as it is now, without what is ignored."""
    target = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(source.read_bytes())
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "as it is"]):
        subprocess.run(["git", *command], cwd=target, check=True, capture_output=True)
    return target


@pytest.fixture
def sh():
    """Run a command and hand back its exit status and all it printed."""

    def run(*command, cwd=ROOT, timeout=600, **env):
        done = subprocess.run([str(part) for part in command], cwd=cwd, timeout=timeout, text=True, encoding="utf-8",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              env={**os.environ, "PYTHONIOENCODING": "utf-8", **env})
        return done.returncode, done.stdout

    return run
