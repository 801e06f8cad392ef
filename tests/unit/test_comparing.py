"""Comparisons in pairs: Student's interval and the sign test, by hand."""

import numpy as np
import pytest

import deepnotes as dn
from deepnotes.comparing import paired


def test_by_hand():
    r = paired([3, 5, 4, 8], [1, 5, 1, 9])              # differences 2, 0, 3, -1: mean 1, s² = 10/3
    half = 3.182446305284263 * (10 / 3) ** 0.5 / 2      # t of 3 degrees of freedom at 97.5 %, from the tables
    np.testing.assert_allclose([r.mean, r.low, r.high], [1, 1 - half, 1 + half], rtol=1e-12)
    assert (r.won, r.lost, r.ties, r.pairs) == (2, 1, 1, 4) and r.chance == 1.0 and not r.settled


@pytest.mark.parametrize(("won", "lost", "chance"), [(10, 0, 2 / 1024), (9, 1, 22 / 1024), (11, 1, 26 / 4096), (5, 5, 1.0)])
def test_sign_test_is_the_binomial_at_one_half(won, lost, chance):
    r = paired([1.0] * won + [-1.0] * lost, np.zeros(won + lost))
    assert r.chance == pytest.approx(chance, rel=1e-12)


def test_one_wild_run_settles_nothing():
    sides = np.random.default_rng(0).normal(0.02, 0.1, (2, 12))
    sides[0, 3] += 50                                    # a mean that one pair carries
    assert not paired(*sides).settled
    better = paired(sides[1] + 0.3, sides[1])
    assert better.settled and better.low > 0.299 and "larger in 12 of 12" in str(better)


def test_order_and_ties():
    assert paired([1, 2, 3], [1, 2, 3]).chance == 1.0
    a, b = paired([1, 4, 2], [0, 1, 5]), paired([0, 1, 5], [1, 4, 2])
    assert (a.mean, a.low, a.high, a.won) == (-b.mean, -b.high, -b.low, b.lost)


@pytest.mark.parametrize(("sides", "words"), [
    (([1, 2], [1, 2, 3]), r"\(2,\) and \(3,\)"), (([1], [2]), "at least two"), (([[1, 2]], [[1, 2]]), "one number per pair"),
    (([1, np.nan], [1, 2]), "pair 1 holds nan"), (([1, 2], [np.inf, 2]), "pair 0 holds 1.0 and inf")])
def test_what_cannot_be_compared_is_refused(sides, words):
    with pytest.raises(ValueError, match=words):
        paired(*sides)


def test_level():
    with pytest.raises(ValueError, match="between 0 and 1"):
        paired([1, 2], [2, 4], level=95)
    wide, narrow = (paired([1, 2, 4], [2, 4, 5], level=q) for q in (0.99, 0.5))
    assert wide.high - wide.low > narrow.high - narrow.low and "99%" in str(wide)
    assert dn.comparing.paired is paired
