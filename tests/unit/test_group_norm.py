"""Group and instance normalization: the definition in float64, captured steps, what is refused. For PyTorch see test_layers_modules."""
import numpy as np
import pytest

from deepnotes import Sequential, kernels
from deepnotes.autograd import Tensor, grad, grad_check
from deepnotes.capture import capture
from deepnotes.convolution import Conv2d
from deepnotes.layers import Flatten, GroupNorm, InstanceNorm1d, InstanceNorm2d, Linear, ReLU
from deepnotes.optim import SGD
from deepnotes.outputs import cross_entropy


def by_hand(x, groups, eps):
    rows = x.astype("float64").reshape(len(x), groups, -1)
    return ((rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)).reshape(x.shape)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("make, groups, shape", [
    (lambda: GroupNorm(2, 6), 2, (3, 6)), (lambda: GroupNorm(3, 6), 3, (3, 6, 4, 5)), (lambda: GroupNorm(1, 6), 1, (3, 6, 2)),
    (lambda: InstanceNorm1d(6), 6, (3, 6, 4)), (lambda: InstanceNorm2d(6), 6, (3, 6, 4, 1)),
])
def test_far_from_zero_and_of_any_layout(make, groups, shape, backend):
    layer, rng = make(), np.random.default_rng(0)
    x = (1e4 + rng.normal(size=shape)).astype("float32")
    with kernels.backend(backend):
        for laid in (x, np.asfortranarray(x), x[::-1][::-1], np.repeat(x, 2, 0)[::2]):
            np.testing.assert_allclose(layer(laid).numpy(), by_hand(x, groups, 1e-5), atol=2e-3)    # 1e-3 is the spacing of x
        assert layer(x[:0]).shape == (0, *shape[1:])
        assert layer(np.ones(shape, int)).dtype == np.float32


def test_scale_and_shift_belong_to_channels():
    layer, x = GroupNorm(2, 4, dtype="float64"), np.random.default_rng(0).normal(size=(2, 4, 3))
    layer.weight.data[...], layer.bias.data[...] = [1, 2, 3, 4], [0, 1, 0, -1]
    expected = by_hand(x, 2, 1e-5) * np.array([1, 2, 3, 4])[:, None] + np.array([0, 1, 0, -1])[:, None]
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert repr(layer) == "GroupNorm(2, 4)" and repr(InstanceNorm2d(4, affine=True)) == "InstanceNorm2d(4, affine=True)"
    assert GroupNorm(2, 4, affine=False).parameters() == [] == InstanceNorm1d(4).parameters()


def test_second_derivatives():
    layer, x = GroupNorm(2, 4, eps=0.1, dtype="float64"), np.random.default_rng(0).normal(size=(2, 4, 3))
    assert grad_check(grad(lambda x: (layer(x) ** 3).sum()), x)


def trained(captured):
    rng = np.random.default_rng(0)
    model = Sequential(Conv2d(1, 4, 3, rng=rng), GroupNorm(2, 4), ReLU(), Conv2d(4, 3, 2, rng=rng), InstanceNorm2d(3, affine=True),
                       Flatten(), Linear(27, 3, rng=rng))
    optimizer, X, y = SGD(model.parameters(), lr=0.1, momentum=0.9), rng.normal(size=(5, 1, 6, 6)).astype("float32"), np.arange(5) % 3

    def step(x, y):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    if captured:
        step = capture(step, fuse=False)
    losses = [step(Tensor(X), y).item() for _ in range(5)]
    return losses, model.state_dict(), step


def test_a_captured_step_is_the_plain_one():
    (plain, state, _), (captured, other, step) = trained(False), trained(True)
    assert step.captured and plain == captured and plain[-1] < plain[0]
    for name, array in state.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize("call, said", [
    (lambda: GroupNorm(4, 6), "6 channels cannot be cut into 4 groups of one size"),
    (lambda: GroupNorm(0, 6), "num_groups must be a positive integer"), (lambda: GroupNorm(2, 6, eps=-1), "eps must be a number"),
    (lambda: GroupNorm(2, 6)(np.zeros((3, 4))), r"shape \(3, 4\), expected \(n, 6, ...\)"),
    (lambda: GroupNorm(2, 6)(np.zeros(6)), r"shape \(6,\), expected"),
    (lambda: InstanceNorm1d(3)(np.zeros((2, 3))), r"expected \(n, channels, length\) with 3 channels"),
    (lambda: InstanceNorm2d(3)(np.zeros((2, 3, 4))), r"expected \(n, channels, height, width\)"),
    (lambda: InstanceNorm2d(3)(np.zeros((2, 3, 1, 1))), "more than one value in each"),
])
def test_what_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
