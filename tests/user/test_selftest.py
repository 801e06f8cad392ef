"""`python -m deepnotes.compiler` on a machine where all is well, and on machines where something is missing."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from deepnotes import kernels
from deepnotes.compiler import borrowed

NEEDED = pytest.mark.skipif(not kernels.can_compile(), reason="asks for a compiler that works")


def selftest(folder, before="", **environment):
    """Exit status and lines of the self-test, run as `python -m` runs it, after a program that may hide packages."""
    program = f"import runpy, sys\n{before}\nrunpy.run_module('deepnotes.compiler', run_name='__main__', alter_sys=True)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DEEPNOTES_CACHE_DIR": str(folder / "cache"), **environment}
    done = subprocess.run([sys.executable, "-c", program], env=env, cwd=folder, text=True, capture_output=True, timeout=300)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@NEEDED
def test_all_is_well(tmp_path):
    command = [sys.executable, "-m", "deepnotes.compiler"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DEEPNOTES_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=env, cwd=tmp_path, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 5 and all(line.startswith("works  ") for line in lines)
    assert "numba" in lines[0] and str(tmp_path / "cache") in lines[3]


@pytest.mark.parametrize("hidden", [["numba"], ["llvmlite"], ["numba", "llvmlite"]], ids="+".join)
def test_without_the_compiler_it_runs_and_says_what_is_missing(tmp_path, hidden):
    status, lines = selftest(tmp_path, f"sys.modules.update(dict.fromkeys({hidden!r}))")
    assert status == 1 and len(lines) == 5
    assert lines[0] == "fails  packages: not installed, so kernels run on numpy (pip install numba)"
    assert lines[1].startswith("fails  borrowed names: ") and lines[2].startswith("fails  a first loop: ")


@NEEDED
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are POSIX's")
def test_a_folder_that_others_may_write_to_is_named(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    status, lines = selftest(tmp_path)
    assert status == 1 and [line[:5] for line in lines] == ["works", "works", "works", "fails", "works"]
    assert str(tmp_path / "cache") in lines[3]


@NEEDED
def test_a_borrowed_name_that_is_gone_is_named(tmp_path):
    status, lines = selftest(tmp_path, "import llvmlite.binding; del llvmlite.binding.create_mcjit_compiler")
    assert status == 1
    assert " are missing: " in lines[1] and "llvmlite.binding.create_mcjit_compiler" in lines[1]    # numba itself needs it, too
    assert lines[2].startswith("fails  a first loop: AttributeError")


def test_whatever_the_package_imports_of_numba_beyond_its_public_modules_is_in_the_table():
    found = set()
    for path in (ROOT / "deepnotes" / "compiler").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("numba.core", "numba.np", "llvmlite")):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert found
    for name in found:
        assert any(known == name or known.startswith(name + ".") for known in borrowed.BORROWED), name
    assert all(instead.strip() for instead in borrowed.BORROWED.values())
