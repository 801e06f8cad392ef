"""What the page Width claims, measured again with other starts; and its exercises' checks."""

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise

from deepnotes.datasets import load_digits, standardize

CELLS = code_cells("05b_width")


@pytest.fixture(scope="module")
def space():
    space = {"np": np, "load_digits": load_digits, "standardize": standardize}
    for words in ("def parametrize", "def forward", "def movement", "def check_change", "def check_descent_factors"):
        cell = next(cell for cell in CELLS if words in cell)
        exec(cell.partition("\nwidths = ")[0], space)
    return space


@checked("05b_width")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


def test_one_step_moves_a_unit_by_the_sum_of_its_inputs_magnitudes():
    rng = np.random.default_rng(3)
    for n in (10, 1000):
        h, delta = rng.normal(size=n), rng.normal(size=4)
        moved = h @ -np.sign(np.outer(h, delta))
        np.testing.assert_allclose(moved, -np.sign(delta) * abs(h).sum(), rtol=1e-12)


def test_movements_grow_by_the_powers_that_the_law_gives_them_and_stay_under_it(space):
    def doubling(rates, start):
        at = [np.mean([space["movement"](n, seed, rates, start) for seed in range(20, 26)], 0) for n in (512, 1024)]
        return at[1] / at[0]

    assert np.all(abs(doubling(False, False) / [2, 2**1.5] - 1) < 0.2)
    assert np.all(abs(doubling(True, False) / [1, 2**0.5] - 1) < 0.2)
    assert np.all(abs(doubling(True, True) - 1) < 0.2)


def test_at_the_base_width_the_law_is_what_everybody_does(space):
    W, factors = space["parametrize"](16, np.random.default_rng(0), law=True, base=16)
    usual, ones = space["parametrize"](16, np.random.default_rng(0), law=False)
    assert factors == ones == [1.0, 1.0, 1.0]
    assert all(np.array_equal(a, b) for a, b in zip(W, usual, strict=True))


def test_on_other_seeds_the_best_rate_falls_with_the_width_and_stays_under_the_law(space):
    space = dict(space)
    for words in ("def prepare", "def losses"):
        cell = next(cell for cell in CELLS if words in cell).partition("\nrates, sizes")[0]
        exec(cell.replace("np.arange(10)", "np.arange(40, 46)"), space)
    rates = 2.0 ** np.arange(-9, -3)
    best = {(n, law): np.array([space["losses"](n, lr, law) for lr in rates]).argmin(0).mean() for n in (16, 128) for law in (False, True)}
    assert best[16, False] == best[16, True]
    falls, stays = (best[16, law] - best[128, law] for law in (False, True))
    assert falls > 0.9 and abs(stays) < 0.9 and falls - stays > 0.6
