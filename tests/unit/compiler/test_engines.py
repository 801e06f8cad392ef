"""Machine code of ever new texts: freed with the last function that points into it, and not before"""

import gc
import subprocess
import sys
import textwrap
import weakref

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels
from deepnotes.capture import capture, fuse
from deepnotes.capture.program import Program
from deepnotes.compiler import cache

pytestmark = pytest.mark.skipif(kernels.default_backend() == "numpy", reason="nothing is compiled")
X = np.arange(50, dtype=np.float32)


def kernel():
    "A kernel of a user's formula; each one has machine code of its own, found in the cache from the second on."
    def formula(x):
        return x * 3.0 + 0.5
    return kernels.elementwise(formula, "tripled")


def live():
    gc.collect()
    return len(cache._mortal), len(cache.native)


def tripled(one):
    out = kernels.launch(one, np.empty_like(X), X)
    np.testing.assert_array_equal(out, X * 3 + np.float32(0.5))


def test_machine_code_goes_with_its_kernel():
    tripled(kernel())
    before = live()
    for _ in range(100):
        tripled(kernel())
    assert live() == before
    kept = [kernel() for _ in range(20)]
    for one in kept:
        tripled(one)
    assert live() == (before[0] + 20, before[1] + 20)
    for one in kept:
        tripled(one)
    del kept, one
    assert live() == before


def test_a_program_holds_the_machine_code_that_it_calls():
    one, out = kernel(), np.zeros_like(X)
    tripled(one)
    calls = one.compiled.calls(out, X)
    program, loop = Program(calls), weakref.ref(calls[0][0])
    part, twice = Program.of_parts([calls, calls]).part(1), program.then(program)
    del one, calls
    before = live()
    for what in (program, part, twice):
        out[:] = 0
        assert loop() is not None and what.run() == -1
        np.testing.assert_array_equal(out, X * 3 + np.float32(0.5))
    del program, part, twice, what
    assert loop() is None and live() == (before[0] - 1, before[1] - 1)


def test_a_captured_step_outlives_all_that_is_known_of_its_loops():
    fast = capture(lambda x: (x * 2 + 1).tanh() * x, fuse=True)
    expected = [fast(dn.Tensor(X / 50)).numpy() for _ in range(5)][0]
    fuse._latest.clear()
    gc.collect()
    [tripled(kernel()) for _ in range(30)]              # others take the memory, if it was freed
    for _ in range(3):
        np.testing.assert_array_equal(fast(dn.Tensor(X / 50)).numpy(), expected)


def test_loops_of_steps_that_are_gone_are_forgotten_but_for_the_latest(monkeypatch):
    "A loop per text, found in the cache: to compile hundreds would take minutes."
    contents = []
    monkeypatch.setattr("deepnotes.compiler.loops.kept", lambda key, make, use: contents.append(make()) or use(contents[0]))
    tripled(kernel())
    content, before = contents[0], live()
    monkeypatch.setattr(fuse, "machine_code", lambda *args, mortal, **how: cache.load(content, mortal=mortal))
    held = fuse._loop(None, (), "held")
    for n in range(300):
        assert fuse._loop(None, (), f"text {n}") is fuse._loop(None, (), f"text {n}")
    now, most = live(), fuse._latest.maxlen + 1
    assert now[0] <= before[0] + most and now[1] <= before[1] + most and len(fuse._loops_made) <= before[1] + most
    assert fuse._loop(None, (), "held") is held
    out = np.empty_like(X)
    held(out, X)
    np.testing.assert_array_equal(out, X * 3 + np.float32(0.5))
    fuse._latest.clear()


END = """
    import atexit, builtins, gc, os
    import numpy as np
    def early():
        one = make(); launch(one)
        builtins.later = Last(one)
    atexit.register(early)                  # runs behind all that the library does at the end
    from deepnotes import kernels
    X = np.arange(50, dtype=np.float32)
    def make():
        return kernels.elementwise(lambda x: x * 3 + 1, "tripled")
    def launch(one):
        return kernels.launch(one, np.empty_like(X), X)
    class Last:
        def __init__(self, one):
            self.loops, self.x = [call[0] for call in one.compiled.calls(np.empty_like(X), X)], X
        def __del__(self):
            out = np.empty_like(self.x)
            for loop in self.loops:
                loop(out, self.x)
            os.write(1, b"called %d\\n" % out[1])
    one = make(); launch(one)
    builtins.kept = Last(one)
    cycle = [one]; cycle.append(cycle)
"""


def test_what_calls_machine_code_at_the_end_of_the_process_finds_it_whole():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(END)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and done.stdout == "called 4\n" * 2
