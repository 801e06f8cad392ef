"""The library where the compiler is missing: everything but speed is there."""

import os
import re
import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

HIDDEN = pytest.mark.parametrize("hidden", [("numba",), ("llvmlite",), ("numba", "llvmlite"), (
    "numba", "llvmlite", "scipy", "matplotlib", "safetensors", "sklearn")], ids=" and ".join)

EVERYTHING = """
    import deepnotes as dn
    for name in dn.__dir__():
        try:
            module = getattr(dn, name)
        except ImportError as error:                # the one module that stands on scikit-learn says what to install
            assert name == "estimators" and "deepnotes[sklearn]" in str(error), error
            continue
        for public in getattr(module, "__all__", ()):
            getattr(module, public)

    import numpy as np
    from deepnotes import checkpoints
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2)).astype(np.float32)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)

    def new():
        model = dn.MLP(2, [16], 2, rng=0)
        return dn.Trainer(model, optimizer=dn.optimizers.Adam(model.parameters(), lr=0.02), loss="cross_entropy", seed=0)

    trainer = new()
    history = trainer.fit(X, y, epochs=30, batch_size=16)
    assert history["loss"][-1] < 0.3 < history["loss"][0], history["loss"]
    trainer.save("xor.safetensors")
    twin = dn.Trainer.load("xor.safetensors")
    assert (twin.predict(X) == trainer.predict(X)).all()
    checkpoints.save({"weights": X}, "weights.safetensors")
    assert (checkpoints.load("weights.safetensors")["weights"] == X).all()

    model = dn.MLP(2, [16], 2, rng=0)
    optimizer = dn.optimizers.Adam(model.parameters(), lr=0.02)

    def step(x, t):
        loss = dn.outputs.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    fast = dn.capture.capture(step)
    losses = [float(fast(X, y).item()) for _ in range(5)]
    assert losses[-1] < losses[0] and not fast.captured
    assert fast.reason == "the numpy backend runs no compiled loops", fast.reason
    assert dn.show_config("dicts")["backend"] == "numpy"
    with dn.backend("numba"):                       # there is none: it means numpy
        assert float(step(dn.Tensor(X), y).item()) > 0
    assert "deepnotes.compiler.bridge" not in sys.modules
"""


def without(packages, program, folder):
    """Run a program in a process that cannot import these packages."""
    hide = f"import sys\nsys.modules.update(dict.fromkeys({list(packages)!r}))\n"
    env = {k: v for k, v in os.environ.items() if k not in ("DEEPNOTES_BACKEND", "NUMBA_DISABLE_JIT")}
    env |= {"PYTHONPATH": str(ROOT), "DEEPNOTES_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", hide + textwrap.dedent(program)], cwd=folder, env=env, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@HIDDEN
def test_everything_but_speed_is_there(hidden, tmp_path):
    done = without(hidden, EVERYTHING, tmp_path)
    assert done.stderr.count("RuntimeWarning") == 1
    assert "numba is not installed, so kernels run on numpy" in done.stderr
    assert not (tmp_path / "cache").exists()


@HIDDEN
def test_the_program_of_the_readme_learns(hidden, tmp_path):
    if "sklearn" in hidden:
        pytest.skip("the digits are scikit-learn's")
    pytest.importorskip("sklearn")
    program = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S).group(1)
    done = without(hidden, program, tmp_path)
    assert float(re.search(r"test accuracy ([\d.]+)", done.stdout).group(1)) > 0.96
    assert (tmp_path / "digits.safetensors").exists()
