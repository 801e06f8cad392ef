"""Every operation: its values are numpy's, its gradients are central differences', on both backends and any layout."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor

BOTH = pytest.mark.parametrize("backend", ["numpy", "numba"])
PROPERTY = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

UNARY = {  # name: (operation, numpy's form, transform of standard normal numbers into the domain)
    "exp": (ag.exp, np.exp, lambda x: x),
    "log": (ag.log, np.log, lambda x: np.abs(x) + 0.5),
    "log1p": (ag.log1p, np.log1p, lambda x: np.abs(x)),
    "expm1": (ag.expm1, np.expm1, lambda x: x),
    "sqrt": (ag.sqrt, np.sqrt, lambda x: np.abs(x) + 0.5),
    "square": (ag.square, np.square, lambda x: x),
    "abs": (ag.abs, np.abs, lambda x: x + np.sign(x)),
    "sin": (ag.sin, np.sin, lambda x: x),
    "cos": (ag.cos, np.cos, lambda x: x),
    "tanh": (ag.tanh, np.tanh, lambda x: x),
    "sigmoid": (ag.sigmoid, lambda x: 1 / (1 + np.exp(-x)), lambda x: x),
    "erf": (ag.erf, lambda x: np.vectorize(__import__("math").erf, otypes=[float])(x), lambda x: x),
    "negative": (ag.negative, np.negative, lambda x: x),
    "reciprocal": (ag.reciprocal, np.reciprocal, lambda x: np.abs(x) + 0.5),
    "square root of squares": (lambda x: (x**2 + 1) ** 0.5, lambda x: np.sqrt(x**2 + 1), lambda x: x),
    "cube": (lambda x: x**3, lambda x: x**3, lambda x: x),
    "2**x": (lambda x: 2**x, lambda x: 2.0**x, lambda x: x),
    "clip": (lambda x: x.clip(-0.5, 0.75), lambda x: np.clip(x, -0.5, 0.75), lambda x: x),
}
BINARY = {
    "add": (ag.add, np.add),
    "subtract": (ag.subtract, np.subtract),
    "multiply": (ag.multiply, np.multiply),
    "divide": (ag.divide, np.divide),
    "power": (ag.power, np.power),
    "maximum": (ag.maximum, np.maximum),
    "minimum": (ag.minimum, np.minimum),
    "where": (lambda x, y: ag.where(x > y, x * y, y), lambda x, y: np.where(x > y, x * y, y)),
}
A = np.random.default_rng(1).standard_normal((4, 3, 5))
INDEX = np.array([[2, 0, 1], [1, 1, 0]])
SHAPED = {  # name: (operation, numpy's form), on an array of shape (4, 3, 5)
    "sum": (lambda x: x.sum(), lambda x: x.sum()),
    "sum axis": (lambda x: x.sum(1), lambda x: x.sum(1)),
    "sum axes kept": (lambda x: x.sum((0, -1), keepdims=True), lambda x: x.sum((0, -1), keepdims=True)),
    "sum no axes": (lambda x: x.sum(()), lambda x: x),
    "mean": (lambda x: x.mean((0, 2)), lambda x: x.mean((0, 2))),
    "var": (lambda x: x.var(), lambda x: x.var(ddof=1)),
    "var axis": (lambda x: x.var(1, correction=0, keepdims=True), lambda x: x.var(1, keepdims=True)),
    "std": (lambda x: x.std((0, 1)), lambda x: x.std((0, 1), ddof=1)),
    "max": (lambda x: x.max((0, 2)), lambda x: x.max((0, 2))),
    "min": (lambda x: x.min(1, keepdims=True), lambda x: x.min(1, keepdims=True)),
    "prod": (lambda x: x.prod((0, 1)), lambda x: x.prod((0, 1))),
    "logsumexp": (lambda x: x.logsumexp((0, 1)), lambda x: np.log(np.exp(x).sum((0, 1)))),
    "softmax": (lambda x: x.softmax(1), lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    "log_softmax": (lambda x: x.log_softmax(), lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True))),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "reshape": (lambda x: x.reshape(2, -1, 3), lambda x: x.reshape(2, -1, 3)),
    "reshape of a transpose": (lambda x: x.T.reshape(15, 4), lambda x: x.T.reshape(15, 4)),
    "permute": (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(2, 0, 1)),
    "transpose": (lambda x: x.transpose(0, -1), lambda x: x.swapaxes(0, -1)),
    "squeeze": (lambda x: x[:, :1].squeeze(1), lambda x: x[:, 0]),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: x[..., None]),
    "expand": (lambda x: x[:1].expand(6, -1, -1), lambda x: np.broadcast_to(x[:1], (6, 3, 5))),
    "broadcast_to": (lambda x: x.broadcast_to(2, 4, 3, 5), lambda x: np.broadcast_to(x, (2, 4, 3, 5))),
    "sum_to": (lambda x: ag.sum_to(x, 3, 1), lambda x: x.sum((0, 2)).reshape(3, 1)),
    "flip": (lambda x: x.flip((0, 2)), lambda x: x[::-1, :, ::-1]),
    "pad": (
        lambda x: ag.pad(x, [(1, 0), (0, 2), (3, 1)], 2.0),
        lambda x: np.pad(x, [(1, 0), (0, 2), (3, 1)], constant_values=2.0),
    ),
    "slice": (lambda x: x[1:, ::-2, 3], lambda x: x[1:, ::-2, 3]),
    "ellipsis and None": (lambda x: x[..., None, 0], lambda x: x[..., None, 0]),
    "one element": (lambda x: x[1, 2, 3], lambda x: x[1, 2, 3]),
    "integer array": (lambda x: x[INDEX], lambda x: x[INDEX]),
    "integer arrays and slice": (lambda x: x[INDEX, :, Tensor([0, 0, 4])], lambda x: x[INDEX, :, np.array([0, 0, 4])]),
    "list": (lambda x: x[[0, 0, -1]], lambda x: x[[0, 0, -1]]),
    "mask": (lambda x: x[x > 0], lambda x: x[x > 0]),
    "mask of rows": (lambda x: x[[True, False, True, True], 1], lambda x: x[[True, False, True, True], 1]),
    "take": (lambda x: ag.take(x, INDEX, 1), lambda x: np.take(x, INDEX, 1)),
    "take_along_axis": (
        lambda x: ag.take_along_axis(x, INDEX[:, :, None], 0),
        lambda x: np.take_along_axis(x, INDEX[:, :, None], 0),
    ),
    "gather": (lambda x: ag.gather(x, 2, np.full((2, 3, 7), 4)), lambda x: np.broadcast_to(x[:2, :, 4:], (2, 3, 7))),
    "concatenate": (
        lambda x: ag.concatenate([x, 2 * x, x[:, :1]], 1),
        lambda x: np.concatenate([x, 2 * x, x[:, :1]], 1),
    ),
    "stack": (lambda x: ag.stack([x, x * x], -1), lambda x: np.stack([x, x * x], -1)),
    "split": (lambda x: ag.split(x, [1, 3, 1], 2)[1], lambda x: x[:, :, 1:4]),
    "split by size": (lambda x: ag.split(x, 2, -1)[2], lambda x: x[:, :, 4:]),
    "matmul": (lambda x: x @ A[0].T, lambda x: x @ A[0].T),
    "matmul batched": (lambda x: x @ x.transpose(1, 2), lambda x: x @ x.swapaxes(1, 2)),
    "matmul broadcast": (lambda x: x.unsqueeze(1) @ x[0].T, lambda x: x[:, None] @ x[0].T),
    "matmul batch of one": (lambda x: x[:1].transpose(1, 2) @ x, lambda x: x[:1].swapaxes(1, 2) @ x),
    "matmul vector": (lambda x: x @ x[0, 0], lambda x: x @ x[0, 0]),
    "vector matmul": (lambda x: x[0, :, 0] @ x, lambda x: x[0, :, 0] @ x),
    "inner product": (lambda x: x[0, 0] @ x[1, 1], lambda x: x[0, 0] @ x[1, 1]),
    "astype": (lambda x: x.astype("float64"), lambda x: x),
}
EINSUM = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("ii->i", [(3, 3)]),
    ("ii", [(3, 3)]),
    ("ij->", [(2, 3)]),
    ("i,j->ij", [(2,), (3,)]),
    ("ij,ij->", [(2, 3), (2, 3)]),
    ("ba", [(2, 3)]),
    ("i,i", [(3,), (3,)]),
    ("...ij,...jk->...ik", [(5, 1, 2, 3), (4, 3, 2)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("i->", [(0,)]),
    ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("...i->...", [(2, 1, 3)]),
    ("iij,jk->ik", [(3, 3, 2), (2, 4)]),
    ("...a,...a->...", [(1, 3), (2, 3)]),
]


def layouts(array, how):
    "The same numbers in another memory layout"
    if how == "strided" and array.ndim:
        wide = np.zeros(array.shape[:-1] + (2 * array.shape[-1],), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if how == "reversed":
        return np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array
    return np.asfortranarray(array) if how == "fortran" else array


@st.composite
def arrays(draw, max_dims=3):
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=max_dims)))
    values = np.random.default_rng(draw(st.integers(0, 99))).standard_normal(shape)
    return layouts(values, draw(st.sampled_from(["c", "fortran", "strided", "reversed"])))


@st.composite
def pairs(draw):
    "Two positive arrays that broadcast"
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    both = []
    for _ in range(2):
        part = [n if draw(st.booleans()) else 1 for n in shape][draw(st.integers(0, len(shape))) :]
        both.append(layouts(rng.uniform(0.5, 2.0, part), draw(st.sampled_from(["c", "fortran", "strided"]))))
    return both


@BOTH
@pytest.mark.parametrize("name", UNARY)
@PROPERTY
@given(x=arrays())
def test_unary(name, backend, x):
    op, reference, domain = UNARY[name]
    x = domain(x)
    with kernels.backend(backend), np.errstate(all="ignore"):
        np.testing.assert_allclose(op(Tensor(x)).numpy(), reference(x), rtol=1e-12, atol=1e-14)
        single = op(Tensor(x.astype("float32")))
        assert single.dtype == np.float32 and single.shape == x.shape
        np.testing.assert_allclose(single.numpy(), reference(x), rtol=3e-6, atol=1e-6)
        assert ag.grad_check(op, x)


@BOTH
@pytest.mark.parametrize("name", BINARY)
@PROPERTY
@given(xy=pairs())
def test_binary_broadcasts_and_sums_its_gradient_back(name, backend, xy):
    op, reference = BINARY[name]
    with kernels.backend(backend):
        out = op(*map(Tensor, xy))
        np.testing.assert_allclose(out.numpy(), reference(*xy), rtol=1e-13)
        assert out.shape == np.broadcast_shapes(xy[0].shape, xy[1].shape)
        assert ag.grad_check(op, *xy)


@BOTH
@pytest.mark.parametrize("name", SHAPED)
def test_shaped(name, backend):
    op, reference = SHAPED[name]
    with kernels.backend(backend):
        for x in (A, layouts(A, "fortran"), layouts(A, "strided")):
            np.testing.assert_allclose(op(Tensor(x)).numpy(), reference(A), rtol=1e-12)
        assert ag.grad_check(op, A)
        single = op(Tensor(A.astype("float32"), requires_grad=True))
        single.backward(np.ones(single.shape, single.dtype))
        np.testing.assert_allclose(single.numpy(), reference(A), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("subscripts", "shapes"), EINSUM, ids=[e[0] for e in EINSUM])
def test_einsum(subscripts, shapes):
    rng = np.random.default_rng(0)
    operands = [rng.standard_normal(s) for s in shapes]
    np.testing.assert_allclose(ag.einsum(subscripts, *operands).numpy(), np.einsum(subscripts, *operands), rtol=1e-12)
    assert ag.grad_check(lambda *t: ag.einsum(subscripts, *t), *operands)


SMOOTH = [name for name in UNARY if name not in ("abs", "negative", "clip")]


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_unary(name):
    op, _, domain = UNARY[name]
    x = domain(np.random.default_rng(0).standard_normal(7))
    assert ag.grad_check(lambda x: ag.grad(lambda x: op(x).sum())(x), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BINARY)
def test_hessian_vector_products_binary(name):
    op, _ = BINARY[name]
    rng = np.random.default_rng(0)
    x, y, v = rng.uniform(0.5, 2, (2, 3)), rng.uniform(0.5, 2, 3), rng.standard_normal(3)

    def product(x, y):
        gx, gy = ag.grad(lambda x, y: (op(x, y) ** 2).sum(), argnums=(0, 1))(x, y)
        return (gx * v).sum() + (gy * v).sum()

    assert ag.grad_check(product, x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SHAPED)
def test_hessian_vector_products_shaped(name):
    op, _ = SHAPED[name]
    x, v = A[:, :, :5] * 0.9, np.random.default_rng(2).standard_normal(A.shape)
    eps = 1e-5

    def gradient(x):
        return ag.grad(lambda x: (op(x) ** 2).sum())(x)

    product = ag.grad(lambda x: (gradient(x) * v).sum())(x).numpy()
    numeric = (gradient(x + eps * v).numpy() - gradient(x - eps * v).numpy()) / (2 * eps)
    np.testing.assert_allclose(product, numeric, rtol=1e-5, atol=1e-5)


def test_product_with_zeros_is_differentiable_twice():
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0], [1.0, 2.0, 3.0]])
    assert ag.grad_check(lambda x: x.prod(1), x)
    assert ag.grad_check(lambda x: x.prod(), x)
    assert ag.grad_check(lambda x: ag.grad(lambda x: x.prod(1).sum())(x), x, atol=1e-6)
    assert ag.grad(lambda x: x.prod())([2.0, 0.0, 3.0]).tolist() == [0.0, 6.0, 0.0]


@BOTH
def test_ties_and_kinks_follow_the_documented_rule(backend):
    with kernels.backend(backend):

        def g(f, *args):
            return ag.grad(lambda *a: f(*a).sum())(*args).tolist()

        assert g(ag.abs, [-2.0, 0.0, 3.0]) == [-1, 0, 1]
        assert g(lambda x: ag.maximum(x, 1.0), [0.0, 1.0, 2.0]) == [0, 0.5, 1]
        assert g(lambda x: ag.minimum(x, 1.0), [0.0, 1.0, 2.0]) == [1, 0.5, 0]
        assert g(lambda x: x.clip(-1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0, 1, 1, 1, 0]
        assert g(lambda x: x.max(), [1.0, 3.0, 3.0]) == [0, 0.5, 0.5]
        assert g(lambda x: x.min(1), [[1.0, 1.0, 2.0], [0.0, 1.0, 2.0]]) == [[0.5, 0.5, 0], [1, 0, 0]]
        assert g(lambda x: x.std(), [3.0, 3.0]) == [0, 0]
        assert ag.argmax([1.0, 3.0, 3.0]).item() == 1 and ag.argmin([[2.0, 1.0], [0.0, 0.0]], 1).tolist() == [1, 0]


@BOTH
def test_masked_gradients_are_exact_zeros_even_for_infinite_gradients(backend):
    with kernels.backend(backend):
        x = Tensor([1.0, -1.0], requires_grad=True)
        ag.where(x > 0, x, 0.0).backward(np.array([np.inf, np.inf], "float32"))
        assert x.grad.tolist() == [np.inf, 0.0]
        x.grad = None
        ag.maximum(x, 0.0).backward(np.array([np.inf, np.inf], "float32"))
        assert x.grad.tolist() == [np.inf, 0.0]


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empty_tensors_and_scalars(backend, dtype):
    with kernels.backend(backend), np.errstate(all="ignore"):
        x = Tensor(np.zeros((0, 3), dtype), requires_grad=True)
        w = Tensor(np.ones((3, 2), dtype), requires_grad=True)
        y = (ag.exp(x) @ w).sum() + x.sum(0).sum() + x.prod()
        assert y.item() == 1.0
        y.backward()
        assert x.grad.shape == (0, 3) and w.grad.tolist() == [[0, 0]] * 3
        assert np.isnan(x.mean().item()) and x.logsumexp(0).tolist() == [-np.inf] * 3
        z = Tensor(np.array(2.0, dtype), requires_grad=True)
        (z * z).backward()
        assert z.grad.shape == () and z.grad.item() == 4.0


def test_comparisons_and_arg_reductions_have_no_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    for y in (x > 1, x == x, ag.isnan(x), x.argmax(), ag.sign(x), ag.floor(x)):
        assert not y.requires_grad


@PROPERTY
@given(st.integers(0, 10_000))
def test_random_graphs_agree_with_central_differences(seed):
    "Programs of random operations on three shared variables: fan-out, broadcasting and shape changes mixed"

    def program(*leaves):
        rng = np.random.default_rng(seed)
        pool = list(leaves)
        for _ in range(8):
            a, b = (pool[i] for i in rng.integers(len(pool), size=2))
            choice = rng.integers(7)
            if choice == 0:
                c = ag.tanh(a + b)
            elif choice == 1:
                c = ag.sin(a) * b
            elif choice == 2:
                c = a - b.sum(-1, keepdims=True)
            elif choice == 3:
                c = a / (1 + b * b)
            elif choice == 4:
                c = (a.reshape(-1, 1) @ b.reshape(1, -1)).mean(0)[:3]
            elif choice == 5:
                c = ag.logsumexp(a, -1, keepdims=True) + b
            else:
                c = ag.exp(-(a * a)) + b[..., ::-1]
            pool.append(c)
        return ag.concatenate([p.reshape(-1) for p in pool])

    rng = np.random.default_rng(seed + 1)
    assert ag.grad_check(
        program, rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal((1, 3)), rtol=1e-4, atol=1e-6
    )
