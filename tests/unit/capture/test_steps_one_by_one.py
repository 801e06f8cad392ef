"""Steps that Python begins one by one, whose rows the program gathers; and the quick look at whether numbers are finite."""

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import outputs
from deepnotes._doors import all_finite
from deepnotes.capture import capture
from deepnotes.capture.epochs import steps_of
from deepnotes.training import Trainer

pytest.importorskip("numba")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.integers(0, 2, 20)
ORDER = RNG.permutation(20).reshape(5, 4)


def trained():
    "A model, and the captured function (rate, x, y) that moves its weights by that rate times their gradients."
    model = dn.MLP(3, [4], 2, rng=0, dtype=np.float64)
    optimizer = dn.optimizers.SGD(model.parameters(), lr=0.5)

    def step(rate, x, y):
        loss = outputs.cross_entropy(model(x), y) * rate
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, capture(step)


def rate(number):
    return np.array([0.1 * (number + 1)])


def test_they_are_the_steps_that_a_call_takes():
    (model, step), (twin, same) = trained(), trained()
    for one in (step, same):
        for _ in range(2):
            one(rate(0), X[:4], Y[:4])
    given = np.empty(1)
    stepped = steps_of(step, (given,), (X, Y), ORDER)
    for k in (0, 3, 1, 3):
        given[:] = rate(k)
        assert stepped(k)[0].item() == same(rate(k), X[ORDER[k]], Y[ORDER[k]]).item()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert p.data.tobytes() == q.data.tobytes()


def test_there_are_none_before_the_step_has_been_recorded_and_none_for_data_that_lie_apart():
    _, step = trained()
    assert steps_of(step, (rate(0),), (X, Y), ORDER) is None
    for _ in range(2):
        step(rate(0), X[:4], Y[:4])
    assert steps_of(step, (rate(0),), (np.asfortranarray(X), Y), ORDER) is None
    assert steps_of(step, (rate(0),), (X, Y), ORDER) is not None


def test_a_row_that_does_not_exist_is_refused():
    _, step = trained()
    for _ in range(2):
        step(rate(0), X[:4], Y[:4])
    with pytest.raises(IndexError, match="order names a row that does not exist"):
        steps_of(step, (rate(0),), (X, Y), ORDER + 3)(int(np.argmax((ORDER + 3).max(axis=1))))


def test_a_label_that_the_loss_refuses_raises_what_the_plain_step_raises():
    _, step = trained()
    for _ in range(2):
        step(rate(0), X[:4], Y[:4])
    with pytest.raises(ValueError, match="class 7"):
        steps_of(step, (rate(0),), (X, np.full(20, 7)), ORDER)(0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_numbers_whose_squares_are_not_are_finite(dtype):
    largest = np.full((3, 4), np.finfo(dtype).max)
    assert all_finite(largest) and all_finite(largest.T[::2]) and all_finite(largest[:0])
    for odd in (np.nan, np.inf, -np.inf):
        for at in ((0, 0), (2, 3)):
            holed = largest.copy()
            holed[at] = odd
            assert not all_finite(holed) and not all_finite(np.asfortranarray(holed))


def test_a_prediction_for_large_numbers_is_given_and_one_for_nan_refused():
    trainer = Trainer(dn.MLP(3, [4], 1, rng=0, dtype=np.float64), "mse_loss")
    rows = np.full((1, 3), 1e200)
    for _ in range(20):
        assert np.isfinite(trainer.predict(rows)).all()
    rows[0, 1] = np.nan
    with pytest.raises(ValueError, match="row 0, column 1"):
        trainer.predict(rows)
