"""Slices, reversed and broadcast views, views of views: in a captured step they are what they are in the plain one."""

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import layers, optimizers, outputs
from deepnotes.autograd import Tensor
from deepnotes.capture import capture, show

rng = np.random.default_rng(0)
VIEWS = {
    "reversed": lambda h: h[:, ::-1],
    "rows reversed": lambda h: h[::-1],
    "both": lambda h: h[::-1, ::-1],
    "every other": lambda h: h[:, ::2],
    "every other from behind": lambda h: h[::-2],
    "of a view": lambda h: h[:, ::-1][:, 1:][::-1][:, ::2],
    "transposed": lambda h: h.T[::-1].T,
    "broadcast": lambda h: ag.broadcast_to(h[:, :1], h.shape)[:, ::-1],
    "padded": lambda h: ag.pad(h, ((0, 0), (1, 1)))[:, :6],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_hold_the_same_numbers(name):
    def step(x):
        return VIEWS[name](x) * 2.0

    fast = capture(step, fuse=False)
    for start in range(4):
        x = np.arange(start, start + 36, dtype=np.float32).reshape(6, 6)
        np.testing.assert_array_equal(fast(Tensor(x)).data, step(Tensor(x)).data)
    assert fast.captured, fast.reason


@pytest.mark.parametrize("loss", ["cross_entropy", "normalized", "product"])
@pytest.mark.parametrize("name", VIEWS)
def test_training_through_a_view_is_training(name, loss):
    def net():
        linear = layers.Linear(4, 6, rng=0)
        optimizer = optimizers.SGD(linear.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            h = VIEWS[name](linear(Tensor(x)))
            if loss == "cross_entropy":
                value = outputs.cross_entropy(h, y[:len(h)])
            elif loss == "normalized":
                value = outputs.mse_loss(layers.LayerNorm(h.shape[1])(h), ag.broadcast_to(Tensor(x)[:len(h), :1], h.shape))
            else:
                value = (h.T @ h).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value
        return linear, step

    (one, plain), (two, step) = net(), net()
    fast = capture(step, fuse=False)
    for _ in range(4):
        x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 3, 8)
        np.testing.assert_array_equal(plain(x, y).data, fast(x, y).data)
        for a, b in zip(one.parameters(), two.parameters(), strict=True):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("fuse", [False, True])
def test_a_program_that_is_not_the_step_is_never_trusted(fuse, monkeypatch):
    real = show.lowered

    def wrong(kernel, out, operands):
        if kernel.name == "matmul":
            operands = (operands[0], operands[1][:, ::-1])              # as a call that misreads a view would
        return real(kernel, out, operands)

    monkeypatch.setattr(show, "lowered", wrong)
    linear = layers.Linear(4, 6, rng=0)
    fast = capture(lambda x: linear(Tensor(x)).sum(0), fuse=fuse)
    x = rng.normal(size=(8, 4)).astype(np.float32)
    for _ in range(6):
        np.testing.assert_array_equal(fast(x).data, linear(Tensor(x)).sum(0).data)
    assert not fast.captured
    assert "matmul" in fast.reason


def test_a_padded_slice_is_normalized_to_the_last_bit():
    def trained(wrap):
        model = layers.LayerNorm(6)
        optimizer = optimizers.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            loss = outputs.mse_loss(model(ag.pad(x, ((0, 0), (1, 2)))[:, :6]), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        run, draw = wrap(step), np.random.default_rng(65)
        losses = [run(Tensor(draw.normal(size=(7, 5)).astype("f4")), Tensor(draw.normal(size=(7, 6)).astype("f4"))) for _ in range(6)]
        return run, [t.numpy().copy() for t in [*losses, *model.parameters()]]

    fast, found = trained(lambda step: capture(step, fuse=False))
    assert fast.captured, fast.reason
    for a, b in zip(found, trained(lambda step: step)[1], strict=True):
        np.testing.assert_array_equal(a, b)
