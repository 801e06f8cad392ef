"""A compiler that is there but does not work: one readable warning, and the computation goes on in numpy."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

from deepnotes import kernels
from deepnotes.compiler import ready

pytestmark = pytest.mark.skipif(not kernels.can_compile(), reason="these break a compiler that works")


@pytest.fixture(autouse=True)
def a_compiler_that_was_tried(monkeypatch):
    "What a test breaks comes after the first loop, and what the process knows of its compiler is afterwards as before."
    monkeypatch.setattr(ready, "_tested", ready.compiler())


TRAINING = """
    import numpy as np
    import deepnotes as dn
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, 2)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    model = dn.MLP(2, [8], 2, rng=0)
    trainer = dn.Trainer(model, optimizer=dn.optimizers.Adam(model.parameters(), lr=0.02), loss="cross_entropy", seed=0)
    history = trainer.fit(X, y, epochs=6, batch_size=16, progress=False)
    print(dn.kernels.default_backend(), trainer.predict(X[:1]).tolist(), *history["loss"])
"""
BREAKS = {
    "numba refuses this numpy": "fake('raise ImportError(\"Numba needs NumPy 1.0 or less\")')",
    "numba lacks what it had": "fake('')",
    "numba's core has changed": "import numba.core.registry; del numba.core.registry.cpu_target",
    "numba does not compile": """
        import numba.core.dispatcher
        def compile(*args, **options): raise RuntimeError("LLVM has changed\\nand more")
        numba.core.dispatcher.Dispatcher.compile = compile""",
    "llvmlite has another engine": "import llvmlite.binding; del llvmlite.binding.create_mcjit_compiler",
    "the first loop computes nothing": """
        from deepnotes.compiler import cache
        cache.python_function = lambda engine, kinds: lambda *arrays: None""",
}
FAKE = """
    import sys, os
    def fake(text):
        os.makedirs("fake/numba")
        with open("fake/numba/__init__.py", "w") as file:
            file.write(text)
        sys.path.insert(0, "fake")
"""


def train(folder, before="", **environment):
    env = {k: v for k, v in os.environ.items() if k not in ("DEEPNOTES_BACKEND", "NUMBA_DISABLE_JIT")}
    env |= {"PYTHONPATH": str(ROOT), "DEEPNOTES_CACHE_DIR": str(folder / "cache"), **environment}
    program = "\n".join(textwrap.dedent(part) for part in (FAKE, before, TRAINING))
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "RuntimeWarning" in line]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    said, warned = train(tmp_path_factory.mktemp("plain"), DEEPNOTES_BACKEND="numpy")
    assert not warned
    return said


@pytest.mark.parametrize("name", BREAKS)
def test_a_compiler_that_does_not_work_at_all(name, plain, tmp_path):
    said, warned = train(tmp_path, BREAKS[name])
    assert said == plain                        # bit for bit what the numpy backend computes
    (line,) = warned
    assert re.search(r"deepnotes: numba \S+ with llvmlite \S+ failed with \w+: .+: running on numpy$", line)


LATER = """
    from deepnotes.compiler import machine
    compile_loop, count = machine.compile_loop, []
    def failing(*args, **options):
        count.append(1)
        if len(count) > {n}: raise RuntimeError("no such instruction")
        return compile_loop(*args, **options)
    machine.compile_loop = failing
"""


@pytest.mark.parametrize("before", [LATER.format(n=2), LATER.format(n=6), """
    import llvmlite.binding, numba.core.codegen
    from deepnotes.compiler import cache
    def assembled(key, write):
        with cache.answering_for("assembling"):
            raise AttributeError("create_pass_builder")
    cache.assembled = assembled"""], ids=["after one loop", "after five loops", "what is written for LLVM"])
def test_a_compiler_that_fails_for_some_loops(before, plain, tmp_path):
    said, warned = train(tmp_path, before)
    backend, *losses = said.replace("[", "").replace("]", "").split()
    assert backend == "numba" and len(losses) == len(plain.split()) - 1
    expected = plain.replace("[", "").replace("]", "").split()[1:]
    assert all(abs(float(a) - float(b)) < 1e-4 for a, b in zip(losses, expected, strict=True))
    assert warned and all(re.search(r"deepnotes: .+ failed with \w+: .+ \(numba \S+ with llvmlite \S+\): `\w+` runs on numpy$",
                                    line) for line in warned)


def test_a_captured_step_whose_loop_cannot_be_made_stays_plain_and_says_why(tmp_path, monkeypatch):
    import numpy as np

    import deepnotes as dn
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(tmp_path / "cache"))
    x = dn.Tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), requires_grad=True)

    def step(a):
        return (x * a + 0.123).sum()

    expected = float(step(np.ones((3, 4), np.float32)).item())          # its own loops are made now

    def refuse(*args, **options):
        raise AttributeError("module 'llvmlite.binding' has no attribute 'create_pass_builder'")

    from deepnotes.compiler import machine
    monkeypatch.setattr(machine, "compile_loop", refuse)
    fast = dn.capture.capture(step)
    results = [float(fast(np.ones((3, 4), np.float32)).item()) for _ in range(8)]
    assert results == [expected] * 8 and not fast.captured
    assert fast.reason.startswith("compiling a loop failed with AttributeError: module 'llvmlite.binding'")


def test_a_formula_that_numba_cannot_compile_runs_in_numpy():
    import numpy as np
    from numpy.polynomial import polynomial
    kernel = kernels.elementwise(lambda x: polynomial.polyval(x, (1, 2, 3)), "parabola")
    x = np.linspace(0, 1, 5)
    with kernels.backend("numba"), pytest.warns(RuntimeWarning, match="`parabola` runs on numpy"):
        out = kernels.launch(kernel, np.empty_like(x), x)
    assert np.allclose(out, 1 + 2 * x + 3 * x**2, rtol=1e-12)
    with kernels.backend("numba"):              # said once
        assert np.array_equal(kernels.launch(kernel, np.empty_like(x), x), out)


def test_a_formula_that_is_wrong_is_its_authors():
    import numpy as np
    table = np.zeros(3)
    kernel = kernels.elementwise(lambda x: x + table[0], "tabled")
    with kernels.backend("numba"), pytest.raises(TypeError, match="may refer to numbers and functions"):
        kernels.launch(kernel, np.empty(3), np.ones(3))
