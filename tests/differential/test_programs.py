"""Programs drawn at random do the same plain and captured: values, errors, states, and what their Python leaves behind.

`DEEPNOTES_PROGRAMS=20000 pytest tests/differential` tries as many instead.
"""

import os

import generate
import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels
from deepnotes.capture import capture

pytestmark = pytest.mark.skipif(not kernels.can_compile(), reason="captured steps are compiled loops, which need numba")
COUNT = int(os.environ.get("DEEPNOTES_PROGRAMS", "1000"))
PIECES = 20
FUSED = 10                      # one program in so many runs with merged loops too


def frozen(x):
    "What an object holds, as lists, numbers and arrays of its own."
    if isinstance(x, dn.Tensor):
        return frozen(x.data)
    if isinstance(x, np.ndarray):
        return x.copy()
    if isinstance(x, dict):
        return [[repr(k), frozen(v)] for k, v in x.items()]
    if isinstance(x, dn.layers.Module) or type(x).__name__ == "Box":
        return frozen({k: v for k, v in vars(x).items() if k != "_forward_hooks"})
    if hasattr(x, "__iter__") and not isinstance(x, str):
        return [frozen(v) for v in x]
    return x


def difference(a, b, tolerance, path=""):
    "Where two such trees differ, or None."
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{path}: {a.dtype}{a.shape} and {b.dtype}{b.shape}"
        same = np.array_equal(a, b, equal_nan=True) if not tolerance or a.dtype.kind != "f" else np.allclose(
            a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        return None if same else f"{path}: plain {a.ravel()[:4]}, captured {b.ravel()[:4]}"
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((d for k, (x, y) in enumerate(zip(a, b, strict=True))
                     if (d := difference(x, y, tolerance, f"{path}[{k}]")) is not None), None)
    close = isinstance(a, float) and isinstance(b, float) and (np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))
    return None if type(a) is type(b) and (close or a == b) else f"{path}: plain {a!r}, captured {b!r}"


def lived(text, wrap):
    "What each call of a program's step returned or raised, and what it left behind."
    space = {"__name__": "program"}
    exec(compile(text, "program.py", "exec"), space)
    step, batches, state = space["program"]()
    step, story = wrap(step), []
    for x, y in batches:
        try:
            story.append(["returned", frozen(step(x, y))])
        except Exception as error:
            story.append(["raised", type(error).__name__, str(error)])
        story.append(["state", frozen(state())])
    return story, step


def verdict(text, fuse):
    "Where the captured program differs from the plain one, or None; and the captured step."
    with np.errstate(all="ignore"):
        plain, _ = lived(text, lambda step: step)
        story, step = lived(text, lambda step: capture(step, fuse=fuse))
    return difference(plain, story, 2e-3 if fuse else 0.0), step


def check(seed, fuse):
    "Whether program `seed` ran as machine code in the end; a difference is an error that shows the smallest such program."
    chosen = generate.draw(seed, fuse)
    found, step = verdict(generate.text(chosen, seed), fuse)
    if found is None:
        return step.captured
    small = generate.shrunk(chosen, lambda c: verdict(generate.text(c, seed), fuse)[0] is not None)
    found, step = verdict(generate.text(small, seed), fuse)
    pytest.fail(f"program {seed}, fuse={fuse}: call and state alternate; {found}\n(captured: {step.captured}, {step.reason})\n\n"
                f"{generate.text(small, seed)}", pytrace=False)


@pytest.mark.parametrize("piece", range(PIECES))
def test_programs_do_the_same_plain_and_captured(piece):
    captured = [check(seed, fuse) for seed in range(piece, COUNT, PIECES)
                for fuse in ([False, True] if seed // PIECES % FUSED == 0 else [False])]
    assert len(captured) < 40 or sum(captured) > 4          # the suite would say nothing if every step stayed plain
