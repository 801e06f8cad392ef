"""The functions beside the chapter's: PyTorch's stored values and gradients on both backends, second derivatives, captured steps.

`data/make_names.py` made the stored answers.
"""

import math
import pickle

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor
from deepnotes.capture import capture

STORED = np.load(ROOT / "tests" / "data" / "names.npz")
NAMES = sorted({key.partition("/")[0] for key in STORED})
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
LAST = ((0, 0), (0, 0))
FORMS = {  # where a name and its arguments are not simply the function of that name
    "round_2": lambda x: x.round(2), "flatten_1": lambda x: x.flatten(1), "repeat_2_1_3": lambda x: x[0].repeat(2, 1, 3),
    "tile_2": lambda x: x.tile(2), "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1), "roll": lambda x: x.roll((1, -2), (0, 2)),
    "roll_flat": lambda x: x.roll(5), "tril": lambda x: x.tril(1), "triu": lambda x: x.triu(-1),
    "movedim": lambda x: x.movedim((0, 2), (1, 0)), "sort": lambda x: x.sort(dim=1, descending=True).values,
    "topk": lambda x: x.topk(2, dim=-1, largest=False)[0],
    "cumprod": lambda x: x.cumprod(1), "logcumsumexp": lambda x: x.logcumsumexp(dim=2),
    "norm": lambda x: x.norm(), "norm_1": lambda x: x.norm(1, dim=1), "norm_3": lambda x: x.norm(3, dim=(0, 2), keepdim=True),
    "norm_inf": lambda x: x.norm(math.inf, dim=2), "pad_reflect": lambda x: ag.pad(x, (*LAST, (2, 1)), mode="reflect"),
    "pad_replicate": lambda x: x.pad((*LAST, (2, 3)), mode="replicate"),
    "pad_circular": lambda x: ag.pad(x, (*LAST, (2, 1)), mode="wrap"),
    "masked_fill": lambda x: x.masked_fill(x > 1, -2.0), "sum_dim": lambda x: x.sum(dim=(0, 2), keepdim=True),
    "softmax_dim": lambda x: x.softmax(dim=1), "chunk": lambda x: x.chunk(3, dim=2)[1], "cat": lambda x, y: ag.cat((x, y), dim=1),
    "attention": ag.scaled_dot_product_attention,
    "attention_causal": lambda *x: ag.scaled_dot_product_attention(*x, is_causal=True),
    "attention_scale": lambda *x: ag.scaled_dot_product_attention(*x, scale=0.3),
    "attention_mask": lambda *x: ag.scaled_dot_product_attention(*x, MASK),
}
FLAT = {"ceil", "trunc", "round", "round_2", "floor_divide"}
KINKED = FLAT | {"relu", "frac", "remainder", "fmod"}


def form(name):
    return FORMS.get(name) or getattr(ag, name)


def inputs_of(name, dtype="float64"):
    return [STORED[f"{name}/in{i}"].astype(dtype) for i in range(3) if f"{name}/in{i}" in STORED]


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_pytorch(name, backend):
    with kernels.backend(backend):
        inputs = [Tensor(x, requires_grad=True) for x in inputs_of(name)]
        out = form(name)(*inputs)
        if name not in FLAT:
            out.backward(np.random.default_rng(1).uniform(0.5, 1.5, out.shape))
    np.testing.assert_allclose(out.numpy(), STORED[f"{name}/out"], rtol=1e-12, atol=1e-12)
    for i, x in enumerate(inputs):
        grad = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        np.testing.assert_allclose(grad, STORED[f"{name}/grad{i}"], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in KINKED])
def test_gradients_can_be_differentiated_again(name):
    inputs = [x[:1] if x.ndim == 3 and name not in {"roll", "roll_flat", "movedim", "norm_3", "sum_dim"} else x for x in inputs_of(name)]
    if name.startswith("repeat_2") or name == "attention_mask":
        inputs = inputs_of(name)

    def slopes(*inputs):
        def total(*inputs):
            out = form(name)(*inputs)
            return (out * np.random.default_rng(2).uniform(0.5, 1.5, out.shape)).sum()
        return ag.concatenate([g.flatten() for g in ag.grad(total, tuple(range(len(inputs))))(*inputs)])

    with kernels.backend("numpy"):
        assert ag.grad_check(slopes, *inputs, rtol=1e-4, atol=1e-6)


CAPTURED = ["tan", "arctan2", "sinh", "log2", "exp2", "logaddexp", "trunc", "rsqrt", "relu", "roll", "tril", "masked_fill",
            "norm", "cat", "attention_causal"]
PLAIN = ["sort", "cumprod", "remainder", "pad_reflect"]  # numpy's own loops, as argmax and cumsum are; take along a later axis


@pytest.mark.parametrize("name", CAPTURED + PLAIN)
def test_a_captured_step_is_the_plain_step(name):
    weights = [np.float32(0.5) * x for x in inputs_of(name, "float32")]

    def fresh():
        parameters = [Tensor(w.copy(), requires_grad=True) for w in weights]

        def step(scale):
            out = form(name)(*[p * scale for p in parameters])
            loss = (out * out).sum()
            for p in parameters:
                p.grad = None
            if loss.requires_grad:
                loss.backward()
            return (loss, *[p.grad for p in parameters if p.grad is not None])
        return step

    plain, fast = fresh(), capture(fresh(), fuse=False)
    for scale in np.linspace(1.9, 2.0, 5, dtype="float32"):
        scale = np.full((), scale)
        for a, b in zip(plain(Tensor(scale)), fast(Tensor(scale)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    if name in PLAIN:
        assert "runs in numpy, not as a compiled loop" in fast.reason or "has no compiled loop for" in fast.reason
    else:
        assert fast.captured, fast.reason


def test_a_captured_sort_sorts_anew():
    def step(x):
        return (x.sort(dim=0).values * Tensor(np.arange(3, dtype="float32"))).sum()

    fast = capture(step)
    for x in ([3, 1, 2], [1, 2, 3], [2, 3, 1], [9, 7, 8]):
        x = np.array(x, "float32")
        assert fast(Tensor(x)).item() == step(Tensor(x)).item()


def test_masks_in_a_captured_step():
    def step(x):
        mask = (x > 0) & ~(x > 1)
        return ag.where(mask, x, 0.0).sum()

    fast = capture(step, fuse=False)
    for shift in range(5):
        x = Tensor(np.linspace(-3, 3, 13, dtype="float32") + np.float32(0.1 * shift))
        assert fast(x).item() == step(x).item()
    assert fast.captured, fast.reason


def test_masks_combine_with_signs():
    x, y = Tensor([1.0, -1.0, 2.0]), Tensor([1.0, 1.0, -1.0])
    a, b = x > 0, y > 0
    assert (a & b).tolist() == [True, False, False]
    assert (a | b).tolist() == [True, True, True]
    assert (a ^ b).tolist() == [False, True, True]
    assert (~a).tolist() == [False, True, False]
    assert (a & True).tolist() == (True & a).tolist() == a.tolist()
    assert (Tensor([6, 3]) & 2).tolist() == [2, 2]
    assert a.any().item() is True and a.all().item() is False
    assert a.all(dim=0, keepdim=True).shape == (1,)
    assert ag.any(np.zeros((0, 3)), axis=0).tolist() == [False] * 3
    assert ag.logical_not(x - 1).tolist() == [True, False, False]
    a &= b
    assert a.tolist() == [True, False, False]
    for wrong in (lambda: x & b, lambda: b | 1.5, lambda: ~x):
        with pytest.raises(TypeError, match=r"compare first.*Masks"):
            wrong()


def test_whole_numbers_divide_and_leave_whole_numbers():
    x = Tensor([-7, 7, 8])
    assert (x // 2).tolist() == [-4, 3, 4] and (x // 2).dtype == "int64"
    assert (x % -3).tolist() == [-1, -2, -1]
    assert (20 // Tensor([3, 7, 9])).tolist() == [6, 2, 2]
    assert (Tensor([7.5]) // 2).tolist() == [3.0]


def test_dim_is_axis_everywhere():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    for name in ("sum", "mean", "var", "std", "max", "min", "argmax", "prod", "logsumexp", "any", "all", "norm"):
        ours, theirs = getattr(x, name)(axis=1, keepdims=True), getattr(x, name)(dim=1, keepdim=True)
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=name)
        np.testing.assert_array_equal(ours.numpy(), getattr(ag, name)(x, dim=1, keepdim=True).numpy(), err_msg=name)
    for name in ("softmax", "log_softmax", "cumsum", "flip", "sort", "argsort", "unsqueeze"):
        ours, theirs = getattr(x, name)(axis=1), getattr(x, name)(dim=1)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)
    assert ag.stack([x, x], dim=2).shape == (2, 3, 2)
    with pytest.raises(TypeError, match="sum: dim and axis are two names"):
        x.sum(dim=1, axis=0)
    assert pickle.loads(pickle.dumps(ag.sum)) is ag.sum


def test_equals_keep_their_places_and_nan_is_the_largest():
    x = Tensor([[2.0, math.nan, 2.0, 5.0]])
    assert x.argsort(dim=1).tolist() == [[0, 2, 3, 1]]
    assert x.argsort(dim=1, descending=True).tolist() == [[1, 3, 0, 2]]
    assert x.topk(0).values.shape == (1, 0)
    with pytest.raises(ValueError, match="topk: expected k from 0 to 4"):
        x.topk(5)


def test_running_products_know_zeros():
    x = Tensor([2.0, 0.0, 3.0, 0.0], requires_grad=True)
    x.cumprod(0).sum().backward()
    assert x.grad.tolist() == [1.0, 8.0, 0.0, 0.0]


def test_logarithms_of_running_sums_know_infinities():
    x = Tensor([-math.inf, 1000.0, -1000.0], requires_grad=True)
    y = x.logcumsumexp(0)
    assert y.tolist() == [-math.inf, 1000.0, 1000.0]
    y[1:].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 2, 0])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_length_neither_overflows_nor_vanishes(scale):
    x = Tensor(np.array([3.0, 4.0], "float32") * np.float32(scale), requires_grad=True)
    length = x.norm()
    assert length.item() == pytest.approx(5 * scale, rel=1e-6)
    length.backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.8], rtol=1e-6)


def test_nothing_to_look_at_is_zeros_and_sends_no_nan_back():
    q, k, v = (Tensor(x, requires_grad=True) for x in np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32"))
    mask = np.ones((4, 4), bool)
    mask[2] = False
    out = ag.scaled_dot_product_attention(q, k, v, mask)
    out.sum().backward()
    assert out.numpy()[2].tolist() == [0, 0]
    assert all(np.isfinite(t.grad.numpy()).all() for t in (q, k, v))
    with pytest.raises(ValueError, match="attention: expected shapes"):
        ag.scaled_dot_product_attention(q, k[:3], v)


def test_one_hot_refuses_labels_out_of_range_in_a_captured_step_too():
    assert ag.one_hot([1, 0]).tolist() == [[0, 1], [1, 0]]
    fast = capture(lambda labels: ag.one_hot(labels, 3, "float32").sum())
    for _ in range(4):
        assert fast(Tensor(np.array([2, 0]))).item() == 2
    assert fast.captured, fast.reason
    with pytest.raises(IndexError, match="3 classes"):
        fast(Tensor(np.array([3, 0])))
    with pytest.raises(TypeError, match="integer labels"):
        ag.one_hot([0.5])


def test_tensors_out_of_nothing():
    x = Tensor(np.ones((2, 3), "float64"))
    assert ag.zeros(2, 3).dtype == "float32" and ag.ones((2, 3)).shape == (2, 3)
    assert ag.zeros_like(x).dtype == "float64" and ag.ones_like(x, dtype="int64").dtype == "int64"
    assert ag.full((2,), 7).dtype == "int64" and ag.full_like(x, 2).tolist() == [[2.0] * 3] * 2
    assert ag.arange(3).tolist() == [0, 1, 2] and ag.arange(1, 2, 0.5).tolist() == [1.0, 1.5]
    assert ag.linspace(0, 1, 3).tolist() == [0, 0.5, 1] and ag.eye(2).tolist() == [[1, 0], [0, 1]]
    assert ag.zeros(3, requires_grad=True).requires_grad


def test_names_after_a_dot():
    x = Tensor([[1.0, -2.0], [3.0, 4.0]], requires_grad=True)
    twin = x.clone()
    assert twin.numpy() is not x.numpy() and twin.requires_grad
    assert x.float() is x and x.long().dtype == "int64" and x.double().dtype == "float64" and (x > 0).int().dtype == "int32"
    assert x.add(1).sub(1).mul(2).div(2).neg().tolist() == (-x).tolist()
    assert x.mm(x.t()).tolist() == (x @ x.T).tolist()
    assert x.flatten().dot(x.flatten()).item() == 30
    assert x.relu().tolist() == [[1, 0], [3, 4]] and math.isnan(Tensor([math.nan]).relu().item())
    assert x.where(x > 0, 0.0).tolist() == x.relu().tolist()
    assert x.numel() == 4 and x.dim() == 2 and round(Tensor([1.26]), 1).item() == pytest.approx(1.3)
    np.testing.assert_array_equal(np.from_dlpack(x.detach()), x.numpy())
    with pytest.raises(RuntimeError, match="cut the graph"):
        np.from_dlpack(x)
    with pytest.raises(ValueError, match="mm: expected two tensors with 2 axes"):
        x.mm(x.flatten())
