"""What the chapter on the engine room shows, and that the checks of its exercises tell right from wrong."""

import contextlib
import json
import math

import numba
import numpy as np
import pytest
from book_helpers import ROOT, checked, try_exercise
from numpy.polynomial import Chebyshev, Polynomial

from deepnotes import kernels as k
from deepnotes.compiler import vector_math

HALF_LN2 = math.log(2) / 2


def ulps(y, exact):
    """Error in units in the last place of float32."""
    return (y.astype(float) - exact) / np.spacing(np.abs(exact).astype(np.float32))


def check(name, **more):
    """A function of one of the chapter's pages, by its name, in the names that it needs."""
    helpers = {"np": np, "k": k, "math": math, "ulps": ulps, **more}
    pages = [*(ROOT / "nbs").glob("09*.ipynb"), *(ROOT / "nbs" / "library" / "compiler").glob("*.ipynb")]
    for path in sorted(pages):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and f"def {name}(" in source:
                exec(source, helpers)  # the book's own cell
                return helpers[name]
    raise AssertionError(f"no page of chapter 9 or of the compiler defines {name}")


# -- the exercises' checks -------------------------------------------------------------------------------------------


def stable(x):
    return k.maximum(x, 0.0) + k.log1p(k.exp(-k.abs(x)))


def slope(x, y):
    return k.sigmoid(x)


def every_operand(launches):
    return [x for launch in launches for x in launch.operands if isinstance(x, np.ndarray)]


def without_outputs(launches):
    written, found = [], []
    for launch in launches:
        found += [x for x in launch.operands if isinstance(x, np.ndarray) and not any(x is y for y in written + found)]
        written.append(launch.out)
    return found  # forgets that optimizers read what they write


def inputs_by_identity(launches):
    "Reads from the kernel's own name whether it updates its output."
    written, inputs = set(), {}
    for launch in launches:
        reads = [launch.out] * (launch.kernel.name in ("sgd", "adam", "adagrad", "rmsprop", "scatter_add")) + list(launch.operands)
        inputs |= {id(x): x for x in reads if isinstance(x, np.ndarray) and id(x) not in written | set(inputs)}
        written.add(id(launch.out))
    return list(inputs.values())


def added(out, a, b):
    out += a @ b  # the output's old content is still there


def right_exp2(x):  # rounded from float64: numpy's own of float32 is off by 2.5 units on some processors
    return np.exp2(x.astype(float)).astype(np.float32)


BEST = list(Chebyshev.interpolate(np.exp, 5, domain=[-HALF_LN2, HALF_LN2]).convert(kind=Polynomial).coef)
ESTIMATE = {"intensity": 1 / 12, "seconds": 0.003, "operations": 60}
WRONG = [
    ("check_estimate", ESTIMATE | {"intensity": 1 / 8}), ("check_estimate", ESTIMATE | {"seconds": 0.002}),
    ("check_estimate", ESTIMATE | {"operations": 5}),
    ("check_bytes", {"numpy": 20, "row by row": 8}), ("check_bytes", {"numpy": 32, "row by row": 4}),
    ("check_bits", {"bits of -6.25": 0x40C80000, "0x3FC00000": 1.5}), ("check_bits", {"bits of -6.25": 0xC0C80000, "0x3FC00000": 1.25}),
    ("check_terms", {"whole": 12, "quarter": 9}), ("check_terms", {"whole": 13, "quarter": 13}),
    ("check_softplus", (lambda x: k.log(1 + k.exp(x)), slope)),  # overflows, and loses small values
    ("check_softplus", (lambda x: k.maximum(x, 0.0), slope)),
    ("check_softplus", (stable, lambda x, y: 1.0 + 0.0 * x)),
    ("check_softplus", (stable, lambda x, y: k.tanh(x))),
    ("check_inputs", lambda launches: []), ("check_inputs", every_operand), ("check_inputs", without_outputs),
    ("check_product", lambda out, a, b: None), ("check_product", added),
    ("check_product", lambda out, a, b: np.copyto(out, a @ np.round(b, 2))),
    ("check_exp2", np.ones_like), ("check_exp2", lambda x: np.exp2(x.astype(float))),
    ("check_exp2", lambda x: right_exp2(x) * np.float32(1 + 1e-6)), ("check_exp2", np.exp),
    ("check_minimax", [1 / math.factorial(i) for i in range(6)]), ("check_minimax", [*BEST, 0]),
    ("check_minimax", [*BEST[:5], BEST[5] * 1.01]),
]
RIGHT = [
    ("check_estimate", ESTIMATE), ("check_bytes", {"numpy": 32, "row by row": 8}),
    ("check_bits", {"bits of -6.25": 0xC0C80000, "0x3FC00000": 1.5}),
    ("check_terms", {"whole": 13, "quarter": 9}), ("check_softplus", (stable, slope)), ("check_exp2", right_exp2), ("check_minimax", BEST),
    ("check_softplus", (stable, lambda x, y: 1.0 - k.exp(-y))), ("check_inputs", inputs_by_identity),
]


def normal(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def seconds(call, samples):
    call()
    return 1.0


@pytest.mark.parametrize("name, wrong", WRONG)
def test_checks_refuse_wrong_answers(name, wrong):
    grade = check(name, normal=normal, seconds=seconds)
    with pytest.raises(AssertionError, match=" "), np.errstate(over="ignore"):
        grade(*wrong if isinstance(wrong, tuple) else (wrong,))


@pytest.mark.parametrize("name, right", RIGHT)
def test_checks_accept_right_answers(name, right):
    check(name)(*right if isinstance(right, tuple) else (right,))


def test_check_of_products():
    grade = check("check_product", normal=normal, seconds=seconds)
    assert grade(lambda out, a, b: np.dot(a, b, out)) == pytest.approx(2 * 256**3 / 1e9)


def test_check_of_coefficients():
    error, taylor = check("check_minimax")(BEST)
    # Chebyshev's remainder: b^6 / (2^5 6!), Taylor's b^6 / 6!; both relative to e^r >= e^-b
    assert error <= 1.05 * HALF_LN2**6 / (2**5 * 720) * math.exp(HALF_LN2)
    assert taylor >= 0.9 * HALF_LN2**6 / 720


@checked("09_kernels")
def test_the_skeleton_is_refused_and_the_solution_accepted(exercise):
    loops = check("three_loops", numba=numba)
    space = {"np": np, "k": k, "numba": numba, "normal": normal, "seconds": seconds, "three_loops": loops, "step": [],
             "one_core": contextlib.nullcontext, "products": {512: 1e9}}
    try_exercise(exercise, space)


@checked("library/compiler/vector_math")
def test_the_skeleton_of_vector_mathematics_is_refused_and_the_solution_accepted(exercise):
    space = {"np": np, "math": math, "ulps": ulps, "polynomial": vector_math.polynomial}
    with np.errstate(over="ignore"):
        try_exercise(exercise, space)


# -- what the chapter shows ------------------------------------------------------------------------------------------


def test_the_series_alone_fails_and_the_reduction_repairs_it():
    total = term = np.float32(1)
    for i in range(1, 100):
        term = term * np.float32(-20) / np.float32(i)
        total += term
    assert abs(total / np.exp(-20.0) - 1) > 1
    x = np.float32([-20, -87, -1e-3, 0, 1e-3, 20, 88])
    assert np.abs(ulps(k.launch(k.exp, np.empty_like(x), x), np.exp(x.astype(float)))).max() < 2


def test_degree_seven_is_the_first_that_float32_does_not_notice():
    r = np.linspace(-HALF_LN2, HALF_LN2, 2001)

    def remainder(degree):
        return np.abs(sum(r**i / math.factorial(i) for i in range(degree + 1)) / np.exp(r) - 1).max()

    assert remainder(6) > 2.0**-24 > remainder(7)
    assert remainder(12) > 2.0**-53 > HALF_LN2**14 / math.factorial(14) * math.exp(HALF_LN2)


@pytest.mark.parametrize("name", ["log1p", "expm1"])
def test_words_for_small_arguments_keep_what_the_plain_formulas_lose(name):
    x = np.logspace(-12, -5, 50).astype(np.float32)
    exact = getattr(np, name)(x.astype(float))
    plain = np.log(np.float32(1) + x) if name == "log1p" else np.exp(x) - np.float32(1)
    assert np.abs(plain / exact - 1).max() == 1  # nothing left
    assert np.abs(ulps(k.launch(getattr(k, name), np.empty_like(x), x), exact)).max() <= 2


def test_fusing_saves_ten_passes_of_eleven():
    """GELU's text has nine operations; counted on an array that records them."""

    class Counted:
        bytes = 0

        def touch(self, other=None):
            Counted.bytes += 4 * (2 + isinstance(other, Counted))
            return Counted()

        __add__ = __radd__ = __mul__ = __rmul__ = touch

        def __deepnotes_op__(self, name, operands):
            return self.touch()

    x = Counted()
    0.5 * x * (1 + k.tanh(0.79788456 * (x + 0.044715 * x * x * x)))
    assert Counted.bytes == 88


def test_replaying_a_step_reaches_the_least_squares_solution():
    rng = np.random.default_rng(9)
    x, t = rng.standard_normal((64, 3)), rng.standard_normal((64, 1))
    w, velocity, gradient, residual = np.zeros((3, 1)), np.zeros((3, 1)), np.empty((3, 1)), np.empty((64, 1))
    with k.recording() as step:
        k.launch(k.matmul, residual, x, w)
        k.launch(k.subtract, residual, residual, t)
        k.launch(k.multiply, residual, residual, 2 / len(x))
        k.launch(k.matmul, gradient, x.T, residual)
        k.launch(k.sgd, w, gradient, velocity, 0.1, 0.5)
    for _ in range(300):
        k.replay(step)
    np.testing.assert_allclose(w, np.linalg.lstsq(x, t, rcond=None)[0], atol=1e-12)
    assert [launch.kernel.name for launch in step] == ["matmul", "subtract", "multiply", "matmul", "sgd"]
    assert step[3].operands[0].base is x  # the transpose is a view: nothing was copied


def test_a_sum_does_not_lose_digits_with_its_length():
    values = np.random.default_rng(10**6).uniform(0, 1, 10**6).astype(np.float32)
    exact = math.fsum(values.tolist())
    total = k.launch(k.sum, np.empty((), np.float32), values)
    if k.default_backend() == "numba":
        assert abs(float(total) / exact - 1) <= 2.0**-23
    assert abs(float(np.cumsum(values)[-1]) / exact - 1) > 2.0**-20


def test_the_pages_hold_all_sections_that_docstrings_name():
    pages = ""
    for path in sorted((ROOT / "nbs").glob("09*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        pages += "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    headings = {line.lstrip("# ") for line in pages.splitlines() if line.startswith("#")}
    named = {
        line.split(", section ")[1].strip().rstrip('".').removesuffix('")')
        for path in (ROOT / "deepnotes" / "kernels").glob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith("Chapter: The engine room, section ")
    }
    assert named and named <= headings
