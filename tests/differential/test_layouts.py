"""However parameters, states, gradients, statistics and inputs lie in memory, a captured step is the plain step."""

import numpy as np
import pytest

from deepnotes import kernels, layers, optimizers
from deepnotes.autograd import Tensor
from deepnotes.capture import capture

rng = np.random.default_rng(0)
SHAPE, NUMBERS = (5, 4), rng.normal(size=(5, 4)).astype(np.float32)


def placed(array, layout):
    "A copy of the array that lies in memory as `layout` says."
    shape = array.shape
    if layout == "C":
        x = np.empty(shape, array.dtype)
    elif layout == "fortran":
        x = np.empty(shape, array.dtype, order="F")
    elif layout == "strided":
        x = np.empty((*shape[:-1], 2 * shape[-1]), array.dtype)[..., ::2]
    elif layout == "rows apart":
        x = np.empty((2 * shape[0], *shape[1:]), array.dtype)[1::2]
    elif layout == "reversed":
        x = np.empty(shape, array.dtype)[::-1]
    elif layout == "turned":
        x = np.empty(shape, array.dtype)[..., ::-1]
    elif layout == "view of a view":
        x = np.empty((*shape[:-1], 3 * shape[-1]), array.dtype)[..., ::-1][..., 1::3][::-1]
    elif layout == "unaligned":
        x = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(shape)
    x[...] = array
    return x


LAYOUTS = ["C", "fortran", "strided", "rows apart", "reversed", "turned", "view of a view", "unaligned"]
OPTIMIZERS = {
    "descent": lambda p: optimizers.SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: optimizers.SGD(p, lr=0.1, momentum=0.9),
    "dampened": lambda p: optimizers.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "adagrad": lambda p: optimizers.Adagrad(p, lr=0.1, initial_accumulator_value=0.1),
    "rmsprop": lambda p: optimizers.RMSprop(p, lr=0.01, momentum=0.5),
    "centered": lambda p: optimizers.RMSprop(p, lr=0.01, centered=True),
    "adam": lambda p: optimizers.Adam(p, lr=0.1),
    "amsgrad": lambda p: optimizers.Adam(p, lr=0.1, amsgrad=True),
    "adamw": lambda p: optimizers.AdamW(p, lr=0.1),
}


class Fit:
    "One weight matrix, its optimizer, and a step."

    def __init__(self, optimizer, layout, after=None):
        self.weight = layers.Parameter(placed(NUMBERS, layout))
        self.optimizer = OPTIMIZERS[optimizer]([self.weight])
        if after is not None:
            self.weight.data = placed(NUMBERS, after)

    def step(self, x, y):
        error = Tensor(x) @ self.weight - Tensor(y)
        loss = (error * error).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def memory(self):
        return [self.weight.data, *self.optimizer.state[self.weight].values()]


def batches(n=4):
    return [(rng.normal(size=(6, 5)).astype(np.float32), rng.normal(size=(6, 4)).astype(np.float32)) for _ in range(n)]


def assert_alike(plain, fast, data, exact=True):
    "Both take the same steps from the same start; what they return and remember is the same, at each of them."
    step = capture(fast.step, fuse=not exact)
    for inputs in data:
        a, b = plain.step(*inputs).data, step(*inputs).data
        for x, y in zip([a, *plain.memory()], [b, *fast.memory()], strict=True):
            if exact:
                np.testing.assert_array_equal(x, y)
            else:
                np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    assert step.captured, step.reason


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_of_any_layout_train_alike(optimizer, layout):
    assert_alike(Fit(optimizer, layout), Fit(optimizer, layout), batches())
    assert_alike(Fit(optimizer, "C"), Fit(optimizer, layout), batches())        # and as those that lie straight


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_parameters_moved_behind_the_optimizers_back_train_alike(layout):
    for optimizer in ("momentum", "adam"):
        assert_alike(Fit(optimizer, "C", layout), Fit(optimizer, "C", layout), batches())
        assert_alike(Fit(optimizer, layout, "C"), Fit(optimizer, layout, "C"), batches(), exact=False)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_states_of_any_layout_are_written(layout):
    "By kernels that are launched with them, eagerly and in a captured step."
    x = rng.normal(size=SHAPE).astype(np.float32)
    hyper = np.array([0.1, 0.9, 0.999, 1e-8, 0.0, 0.0])
    runs = []
    for captured, where in ((False, "C"), (False, layout), (True, layout)):
        p, g = placed(NUMBERS, where), placed(NUMBERS * 0.1, where)
        m, v, t = placed(NUMBERS * 0, where), placed(NUMBERS * 0, where), np.zeros(1)

        def step(x, p=p, g=g, m=m, v=v, t=t):
            kernels.launch(kernels.multiply, g, g, x)
            kernels.launch(kernels.adam, p, g, m, v, t, hyper)
            return Tensor(kernels.launch(kernels.copy, np.empty(SHAPE, np.float32), p))

        run = capture(step, fuse=False) if captured else step
        for _ in range(4):
            run(x)
        assert not captured or run.captured, run.reason
        runs.append([p, g, m, v, t])
    for plain, eager, fast in zip(*runs, strict=True):
        np.testing.assert_array_equal(plain, eager)
        np.testing.assert_array_equal(eager, fast)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
@pytest.mark.parametrize("name", ["normalize", "normalize_backward", "normalize_columns", "sum", "max", "softmax", "logsumexp",
                                  "add_squares", "take", "scatter_add", "matmul"])
def test_kernels_give_the_same_bits_for_any_layout_eagerly_and_captured(name, layout):
    x, w = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    index = np.array([3, 0, 3, 1, 4])
    ends = []
    for captured, where in ((False, "C"), (False, layout), (True, layout)):
        a, b = placed(x, where), placed(w, where)
        out = placed(np.zeros((5, 5) if name == "matmul" else SHAPE, np.float32), where)
        small = [placed(np.zeros(n, np.float32), "strided" if where != "C" else "C") for n in (4, 4, 4, 5)]
        operands = {"normalize": (a, small[3], 1e-5), "normalize_backward": (a, b, placed(x[:, 0], "C")),
                    "normalize_columns": (a, *small[:3], 1e-5), "sum": (a, (1,)), "max": (a, (0,)), "softmax": (a, -1),
                    "logsumexp": (a, (1,)), "add_squares": (a,), "take": (a, index, 0), "scatter_add": (a, index, 0),
                    "matmul": (a, b.T)}[name]
        out = {"sum": small[3], "logsumexp": small[3], "max": small[0], "add_squares": np.zeros(1)}.get(name, out)

        def step(z, out=out, operands=operands):
            kernels.launch(getattr(kernels, name), out, *operands)
            return Tensor(kernels.launch(kernels.multiply, np.empty(1, np.float32), z, 2.0))

        run = capture(step, fuse=False) if captured else step
        for _ in range(4):
            run(np.ones(1, np.float32))
        if captured and not (name == "matmul" and layout == "unaligned"):
            assert run.captured, run.reason
        ends.append([out, *small])
    for plain, eager, fast in zip(*ends, strict=True):
        if name == "matmul":                    # a factor that is read transposed may be summed in another order
            np.testing.assert_allclose(plain, eager, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(plain, eager)
        np.testing.assert_array_equal(eager, fast)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_inputs_of_any_layout(layout):
    "What comes into a captured step is copied, whatever its strides; broadcast and read-only arrays too."
    plain, fast = Fit("momentum", "C"), Fit("momentum", "C")
    data = [(placed(x, layout), placed(y, layout)) for x, y in batches()]
    frozen, spread = data[-1][0].copy(), np.broadcast_to(np.float32([1, 2, 3, 4]), (6, 4))
    frozen.flags.writeable = False
    assert_alike(plain, fast, [*data, (frozen, spread)])


@pytest.mark.parametrize("layout", ["strided", "reversed"])
def test_running_statistics_of_any_layout(layout):
    def net():
        norm = layers.BatchNorm1d(5)
        for name, buffer in list(norm.named_buffers()):
            if buffer.ndim:
                setattr(norm, name, placed(np.asarray(buffer), layout))
        return norm, lambda x: norm(Tensor(x)).sum()

    (one, plain), (two, step) = net(), net()
    fast = capture(step, fuse=False)
    for x, _ in batches():
        np.testing.assert_array_equal(plain(x).data, fast(x).data)
    assert fast.captured, fast.reason
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_parameter_that_was_frozen_is_refused_as_in_plain_steps():
    net = Fit("momentum", "C")
    step = capture(net.step)
    for inputs in batches():
        step(*inputs)
    assert step.captured
    net.weight.data.flags.writeable = False
    before = net.weight.data.copy()
    with pytest.raises(ValueError, match="read-only"):
        step(*batches(1)[0])
    np.testing.assert_array_equal(net.weight.data, before)
