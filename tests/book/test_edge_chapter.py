"""What the page The edge of stability claims, measured again with other starts; and its exercises' checks."""

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise
from fastcore.test import test_close as close

CELLS = code_cells("07b_edge")


def run(*openings, **space):
    "The page's cells that contain these words, run in order."
    space |= {"np": np, "test_close": close}
    for cell in CELLS:
        if any(words in cell for words in openings):
            exec(cell, space)
    return space


@pytest.fixture(scope="module")
def space():
    return run("def walk", "def check_")


@checked("07b_edge")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


def test_every_step_shrinks_the_balance_by_what_the_law_says(space):
    rng = np.random.default_rng(0)
    for u, v, lr in zip(rng.normal(size=50), rng.normal(size=50), rng.uniform(0, 1, 50), strict=True):
        path = space["walk"](u, v, lr, steps=1)
        balance = path[:, 0] ** 2 - path[:, 1] ** 2
        np.testing.assert_allclose(balance[1], (1 - lr**2 * (u * v - 1) ** 2) * balance[0], rtol=1e-9, atol=1e-12)


def test_two_weights_settle_only_where_the_rate_bears_the_curvature(space):
    "From many starts; whoever arrives, arrives below 2/lr, and small steps arrive where the balance says."
    rng = np.random.default_rng(1)
    settled = []
    for u, v in zip(rng.uniform(1, 3.6, 150), rng.uniform(0, 0.6, 150), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            end = space["walk"](u, v, 0.2, steps=3000)[-1]
        if abs(end.prod() - 1) < 1e-9:
            settled.append((((u**2 - v**2) ** 2 + 4) ** 0.5, (end**2).sum()))
    of_small_steps, reached = np.array(settled).T
    assert len(settled) > 100 and (of_small_steps > 10.5).sum() > 5         # some would have gone to a minimum above the border
    assert reached.max() < 10
    flat = of_small_steps < 3
    np.testing.assert_allclose(reached[flat], of_small_steps[flat], rtol=0.15)


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9])
def test_the_border_with_momentum_is_where_a_root_leaves_the_circle(beta):
    def largest(lr_curvature):
        return abs(np.roots([1, -(1 + beta - lr_curvature), beta])).max()

    border = 2 * (1 + beta)
    assert largest(0.999 * border) < 1 < largest(1.001 * border)
    assert all(largest(part * border) < 1 for part in np.linspace(0.01, 0.99, 50))


def test_other_networks_come_to_the_border_too_and_small_rates_stay_below():
    start = next(cell for cell in CELLS if cell.startswith("digits = load_digits()"))
    space = {"np": np}
    exec("from deepnotes.datasets import load_digits, standardize", space)
    exec(start, space)
    arrays = map(np.stack, zip(*map(space["start"], range(40, 44)), strict=True))
    space |= dict(zip(("X", "T", "begin"), (a.astype("float32") for a in arrays), strict=True))
    for words in ("def gradient(", "def descend("):
        exec(next(cell for cell in CELLS if words in cell).split("\nruns = ")[0], space)
    for lr, beta, border in ((0.6, 0.0, 10 / 3), (0.6, 0.5, 5.0)):
        tops, losses = space["descend"](lr, beta=beta)
        ends = np.median(tops[-20:], 0) / border
        assert abs(np.median(ends) - 1) < 0.05 and abs(ends - 1).max() < 0.15
        assert (losses[-100:].mean(0) < losses[800:900].mean(0)).all()
    tops, losses = space["descend"](0.1, steps=800)
    assert tops[1:].max() < 10 and (np.diff(losses, axis=0) < 0).all()
