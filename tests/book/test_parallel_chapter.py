"""Chapter 11: its checks refuse what is wrong, its ring is a sum, and its model says what equation says."""

import math
import re

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise

CELLS = code_cells("11_parallel")


def cell_with(start):
    [found] = [cell for cell in CELLS if re.search(f"^{re.escape(start)}", cell, re.M)]
    return found


@pytest.fixture(scope="module")
def space():
    names = {"np": np, "math": math}
    for cell in CELLS:
        if "\ndef check_" in cell:
            exec(cell, names)
    for start in ("def ring(", "def ring_time", "def least_batch", "def counts_by_round"):
        text = cell_with(start)
        exec(text.partition("\n\nwith style")[0].partition("\n\ntest_close")[0], names)
    return names | {"gradient_bytes": 1000, "fixed": 1e-3, "per_row": 1e-5}


@checked("11_parallel")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


def changes_the_arrays(arrays):
    for a in arrays[1:]:
        arrays[0] += a
    return [arrays[0].copy() for _ in arrays], 2 * math.ceil(math.log2(len(arrays)))


def spoiled(means, weights):
    return sum(w * m for m, w in zip(means, weights, strict=True)) / sum(weights)


WRONG = [
    ("check_mean", 7 / 3), ("check_mean", 20 / 3), ("check_bytes", lambda p, size: 2 * size),
    ("check_bytes", lambda p, size: 2 * (p - 1) * size),
    ("check_combine", spoiled), ("check_combine", lambda means, weights: np.nanmean(means, axis=0)),
    ("check_tree", changes_the_arrays), ("check_tree", lambda arrays: ([sum(arrays) for _ in arrays], 2 * (len(arrays) - 1))),
    ("check_least", lambda p, row, message: message / row * p), ("check_least", lambda p, row, message: message / row),
    ("check_synced", lambda totals: (totals[1:5] / totals[0], totals[5:] / totals[0])),
    ("check_synced", lambda totals: (totals[1:5], totals[5:] - totals[1:5] ** 2)),
    ("check_stuck", lambda programs: min(map(len, programs))), ("check_stuck", lambda programs: 0),
]


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError):
        space[check](wrong)


@pytest.mark.parametrize("p", [1, 2, 3, 7])
def test_the_ring_sums_on_all_ranks_and_leaves_their_arrays(space, p):
    arrays = [np.random.default_rng(r).normal(size=10) for r in range(p)]
    before = [a.copy() for a in arrays]
    totals, sent = space["ring"](arrays)
    assert all(np.array_equal(t, totals[0]) for t in totals) and np.allclose(totals[0], sum(before))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert sent <= 2 * (p - 1) * 8 * math.ceil(10 / p)
    assert (space["counts_by_round"](p)[-1][0] == p).all()


def test_at_the_least_batch_many_ranks_are_as_fast_as_one(space):
    exec(cell_with("def ring_time").removeprefix("#| hide\n"), space)
    exec(cell_with("def least_batch").partition("\n\n\ntest_close")[0], space)
    link = {"latency": 1e-4, "per_byte": 1e-8}
    for p in (2, 3, 64):
        n = space["least_batch"](p, **link)
        assert math.isclose(space["step_time"](n, p, **link), space["step_time"](n, 1, **link), rel_tol=1e-12)
        assert space["step_time"](2 * n, p, **link) < space["step_time"](2 * n, 1, **link)
        assert space["step_time"](n / 2, p, **link) > space["step_time"](n / 2, 1, **link)
