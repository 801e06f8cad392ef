"""Convolution and pooling, against loops that spell the definition out."""

import itertools

import numpy as np
import pytest

from deepnotes import Sequential, autograd, kernels
from deepnotes.autograd import Tensor, grad_check
from deepnotes.capture import capture
from deepnotes.convolution import AvgPool2d, Conv2d, MaxPool2d, conv2d, fold, unfold
from deepnotes.layers import Flatten, Linear, ReLU
from deepnotes.optimizers import SGD
from deepnotes.outputs import cross_entropy

# (height, width), kernel, stride, padding, dilation
WINDOWS = [((8, 8), (3, 3), (1, 1), (1, 1), (1, 1)), ((7, 5), (2, 3), (2, 1), (0, 2), (1, 1)), ((6, 9), (3, 2), (1, 3), (1, 0), (2, 2)),
           ((4, 4), (1, 1), (1, 1), (0, 0), (1, 1)), ((5, 5), (5, 5), (1, 1), (3, 3), (1, 1)), ((3, 4), (2, 2), (3, 3), (1, 1), (1, 2))]


def seen(x, window, n, i, j, a, b, fill=0.0):
    "The pixels of all channels that entry (a, b) of the window sees at place (i, j)."
    _, _, stride, padding, dilation = window
    row, column = i * stride[0] + a * dilation[0] - padding[0], j * stride[1] + b * dilation[1] - padding[1]
    inside = 0 <= row < x.shape[2] and 0 <= column < x.shape[3]
    return x[n, :, row, column] if inside else np.full(x.shape[1], fill)


def places(window):
    size, kernel, stride, padding, dilation = window
    return [(s + 2 * p - d * (k - 1) - 1) // t + 1 for s, k, t, p, d in zip(size, kernel, stride, padding, dilation, strict=True)]


def naive(x, weight, bias, window):
    high, wide = places(window)
    y = np.empty((len(x), weight.shape[3], high, wide))
    for n, i, j in itertools.product(range(len(x)), range(high), range(wide)):
        y[n, :, i, j] = bias
        for a, b in itertools.product(*map(range, weight.shape[:2])):
            y[n, :, i, j] += seen(x, window, n, i, j, a, b) @ weight[a, b]
    return y


def numbers(window, channels=2, features=3, n=2, dtype="float64"):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, channels, *window[0])).astype(dtype), rng.normal(size=(*window[1], channels, features)).astype(dtype),
            rng.normal(size=features).astype(dtype))


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("window", WINDOWS)
def test_it_is_the_definition_and_so_are_both_gradients(window, backend):
    x, weight, bias = numbers(window)
    options = dict(zip(("stride", "padding", "dilation"), window[2:], strict=True))
    with kernels.backend(backend):
        np.testing.assert_allclose(conv2d(x, weight, bias, **options).numpy(), naive(x, weight, bias, window), rtol=1e-12, atol=1e-12)
        assert grad_check(lambda x, w, b: conv2d(x, w, b, **options) ** 2, x, weight, bias)


def test_second_derivatives():
    x, weight, _ = numbers(WINDOWS[1])
    slope_of_weight = autograd.grad(lambda x, w: (conv2d(x, w, stride=(2, 1), padding=(0, 2)) ** 3).sum(), 1)
    slope_of_image = autograd.grad(lambda x, w: (conv2d(x, w, stride=(2, 1), padding=(0, 2)) ** 3).sum(), 0)
    for slope in (slope_of_weight, slope_of_image):
        assert grad_check(lambda x, w, slope=slope: slope(x, w), x, weight)


@pytest.mark.parametrize("window", WINDOWS)
def test_folding_is_the_transpose_of_unfolding_on_both_backends_with_the_same_bits(window):
    size, *options = window
    names = dict(zip(("kernel_size", "stride", "padding", "dilation"), options, strict=True))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 2, *size)).astype("float32")
    found = []
    for backend in ("numba", "numpy"):
        with kernels.backend(backend):
            columns = unfold(x, **names).numpy()
            other = np.random.default_rng(2).normal(size=columns.shape).astype("float32")
            found.append((columns, fold(other, x.shape, **names).numpy()))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    columns, folded = (a.astype("float64") for a in found[0])
    assert np.sum(columns * other) == pytest.approx(np.sum(x * folded), rel=1e-5, abs=1e-4)


def test_arrays_that_do_not_lie_straight():
    x = np.random.default_rng(0).normal(size=(8, 6, 3, 2)).T            # (2, 3, 6, 8), by columns
    weight = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).transpose(2, 3, 1, 0)       # as PyTorch keeps it
    window = ((6, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    np.testing.assert_allclose(conv2d(x, weight, padding=1).numpy(), naive(x, weight, np.zeros(4), window), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(unfold(x[:, ::-1], 2).numpy(), unfold(np.ascontiguousarray(x[:, ::-1]), 2).numpy())
    assert conv2d(np.zeros((0, 3, 6, 8)), weight).shape == (0, 4, 4, 6)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("kernel, stride, padding", [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), 0)])
def test_pooling_is_the_definition(kernel, stride, padding, backend):
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    steps = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    window, x = ((7, 6), pair, steps, (padding, padding), (1, 1)), np.random.default_rng(0).normal(size=(2, 3, 7, 6))
    for make, reduce, fill in ((MaxPool2d, np.max, -np.inf), (AvgPool2d, np.mean, 0.0)):
        high, wide = places(window)
        expected = np.empty((2, 3, high, wide))
        for n, i, j in itertools.product(range(2), range(high), range(wide)):
            expected[n, :, i, j] = reduce([seen(x, window, n, i, j, a, b, fill) for a in range(pair[0]) for b in range(pair[1])], axis=0)
        with kernels.backend(backend):
            layer = make(kernel, stride, padding)
            np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-12)
            assert grad_check(lambda x, layer=layer: layer(x) ** 2, x)


def network(seed=0):
    rng = np.random.default_rng(seed)
    return Sequential(Conv2d(1, 4, 3, padding=1, rng=rng, activation="relu"), ReLU(), MaxPool2d(2),
                      Conv2d(4, 6, 3, rng=rng, activation="relu"), ReLU(), AvgPool2d(2), Flatten(), Linear(6, 3, rng=rng))


def trained(captured, steps=6):
    model, rng = network(), np.random.default_rng(1)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run, losses = capture(step) if captured else step, []
    for _ in range(steps):
        losses.append(run(Tensor(rng.normal(size=(10, 1, 8, 8)).astype("float32")), rng.integers(0, 3, 10)).item())
    return losses, model.state_dict()


def test_a_captured_step_computes_the_same():
    (losses, state), (others, other) = trained(False), trained(True)
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for name, value in state.items():
        np.testing.assert_allclose(value, other[name], rtol=1e-4, atol=1e-6)


def test_shifting_the_image_shifts_what_it_finds():
    layer = Conv2d(1, 3, 3, padding=1, rng=0)
    x = np.zeros((1, 1, 9, 9), "float32")
    x[0, 0, 3:6, 2:5] = np.random.default_rng(0).normal(size=(3, 3))
    moved = np.roll(x, (2, 3), (2, 3))
    np.testing.assert_allclose(np.roll(layer(x).numpy(), (2, 3), (2, 3)), layer(moved).numpy(), atol=1e-6)


@pytest.mark.parametrize("make, said", [
    (lambda: Conv2d(1, 2, 0), "kernel_size must be an integer of at least 1"), (lambda: Conv2d(1, 2, 3, stride=0), "stride"),
    (lambda: Conv2d(1, 2, 3, padding="same"), "padding"), (lambda: Conv2d(4, 4, 3, groups=2), "only 1 is supported"),
    (lambda: Conv2d(1, 0, 3), "out_channels"), (lambda: MaxPool2d(2, padding=2), "more than half"),
    (lambda: Conv2d(1, 2, 3)(np.ones((5, 8, 8))), r"x\.reshape\(n, 1, height, width\)"),
    (lambda: Conv2d(3, 2, 3)(np.ones((5, 1, 8, 8))), r"expected \(n, 3, height, width\)"),
    (lambda: Conv2d(1, 2, 5)(np.ones((5, 1, 8, 4))), "does not fit"), (lambda: MaxPool2d(9)(np.ones((5, 1, 8, 8))), "does not fit"),
    (lambda: conv2d(np.ones((1, 1, 4, 4)), np.ones((3, 3, 1))), "the weight has shape"),
    (lambda: conv2d(np.ones((1, 1, 4, 4)), np.ones((3, 3, 1, 2)), np.ones(3)), "the bias has shape"),
    (lambda: fold(np.ones((4, 5)), (1, 1, 3, 3), 2), "the columns have shape"),
])
def test_errors_say_what_came_and_what_was_expected(make, said):
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "See the page Convolution" in str(caught.value) or "See the chapter Layers" in str(caught.value)


def test_how_layers_write_themselves():
    assert repr(Conv2d(3, 8, (3, 5), stride=2, bias=False)) == "Conv2d(3, 8, kernel_size=(3, 5), stride=2, bias=False)"
    assert repr(MaxPool2d(3, 2, 1)) == "MaxPool2d(3, stride=2, padding=1)" and repr(AvgPool2d(2)) == "AvgPool2d(2)"
