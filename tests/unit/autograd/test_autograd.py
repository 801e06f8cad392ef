"""The tape, the Tensor and the errors that teach."""

import copy
import gc
import pickle
import threading
import weakref
import xml.dom.minidom

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor


def leaf(*shape, seed=0, dtype="float64"):
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


# ---- reverse mode


def test_gradients_add_at_fan_out():
    x = Tensor(3.0, requires_grad=True)
    y = x * x + 2 * x
    y.backward()
    assert x.grad.item() == 2 * 3 + 2


def test_each_node_runs_once_in_a_ladder_of_2_to_the_40_paths():
    x = Tensor(1.0, requires_grad=True, dtype="float64")
    y, visits = x, []
    for _ in range(40):
        y = y + y
        y.register_hook(visits.append)
    y.backward()
    assert x.grad.item() == 2.0**40
    assert len(visits) == 40


def test_a_chain_of_100_000_operations():
    x = Tensor(np.ones(2), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_long_graph_can_be_dropped_without_backward():
    y = Tensor(1.0, requires_grad=True)
    for _ in range(100_000):
        y = -y
    del y


def test_backward_accumulates_over_calls():
    x = leaf(3)
    (2 * x).sum().backward()
    first = x.grad
    (3 * x).sum().backward()
    assert x.grad is first
    assert x.grad.tolist() == [5.0, 5.0, 5.0]


def test_gradients_never_share_memory_with_each_other_or_the_seed():
    a, b = leaf(3), leaf(3, seed=1)
    seed = np.ones(3)
    (a + b).backward(seed)
    a.grad.data[0] = 7
    assert b.grad.data[0] == 1 and seed[0] == 1
    c = leaf(3)
    c.reshape(3, 1).T.backward(np.ones((1, 3)))
    assert c.grad.data.flags.owndata and c.grad.data.flags.writeable


def test_a_rule_that_returns_what_it_saved_does_not_leak_it():
    x, w = leaf(3), leaf(3, seed=1)
    y = ag.record("saved", np.zeros(3), (x,), (lambda g, w: w,), saved=(w,))
    y.sum().backward()
    x.grad.data[:] = 0
    assert np.all(w.data != 0)


def test_fan_in_of_one_array_to_two_inputs_is_not_mixed_up():
    a, b = leaf(3), leaf(3, seed=1)

    def rule(g):
        h = g * 2
        return h, h

    y = ag.record("twice", a.data + b.data, (a, b), rule)
    (y + a).sum().backward()
    assert a.grad.tolist() == [3.0] * 3 and b.grad.tolist() == [2.0] * 3


def test_backward_with_a_gradient():
    x = leaf(2, 2)
    (x * 3).backward([[1, 2], [3, 4]])
    assert x.grad.tolist() == [[3, 6], [9, 12]]


def test_backward_of_a_leaf():
    x = Tensor(2.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1.0


def test_second_backward_is_refused_unless_retained():
    x = leaf(3)
    y = ag.exp(x).sum()
    y.backward(retain_graph=True)
    once = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 2 * once)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_buffers_are_freed_as_backward_passes():
    x = leaf(1000)
    h = ag.exp(x)
    data = weakref.ref(h)
    y = ag.sin(h)
    del h
    seen = []
    y.register_hook(lambda g: seen.append(True))
    total = y.sum()
    node = y._node
    total.backward()
    assert seen and data() is None
    assert node.saved is None and node.edges is None


def test_forward_keeps_no_array_that_no_rule_needs():
    x = leaf(1000)
    h = x + 1.0
    array = h.data
    refs = gc.get_referrers(array)
    y = h + 2.0  # the sum's rule needs neither summand
    del refs
    kept = weakref.ref(h)
    del h
    assert kept() is None
    assert not any(array is s for s in y._node.saved)


def test_a_graph_makes_no_reference_cycles():
    gc.collect()
    gc.disable()
    try:
        x = leaf(5)
        y = ag.softmax(ag.exp(x) * ag.tanh(x)).sum()
        ref = weakref.ref(y)
        del y
        assert ref() is None
    finally:
        gc.enable()


def test_no_grad_and_enable_grad():
    x = leaf(2)
    with ag.no_grad():
        assert not ag.is_grad_enabled()
        assert not (x * 2).requires_grad
        with ag.enable_grad():
            assert (x * 2).requires_grad
    assert ag.is_grad_enabled()

    @ag.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad
    with pytest.raises(ZeroDivisionError), ag.no_grad():
        1 / 0  # noqa: B018
    assert ag.is_grad_enabled()


def test_grad_mode_belongs_to_its_thread():
    seen = []
    with ag.no_grad():
        t = threading.Thread(target=lambda: seen.append(ag.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_threads_build_and_walk_their_own_graphs():
    results = []

    def work(k):
        x = Tensor(np.full(4, float(k)), requires_grad=True)
        for _ in range(50):
            (x * x).sum().backward()
        results.append(x.grad.tolist() == [100.0 * k] * 4)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert results == [True] * 8


def test_detach_stops_gradients_and_shares_memory():
    x = leaf(3)
    d = (x * 2).detach()
    assert not d.requires_grad and d.is_leaf
    (x * d).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), d.numpy())
    assert x.detach().data is x.data


# ---- hooks


def test_hooks_see_and_replace_the_total_gradient():
    x = leaf(2)
    seen = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    h = x * 1.0
    remove = h.register_hook(lambda g: g * 10)
    (h * 2 + h).sum().backward()
    assert x.grad.tolist() == [30.0, 30.0] and seen == [[30.0, 30.0]]
    remove()
    x.grad = None
    h = x * 1.0
    h.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_a_hook_that_returns_another_shape_is_refused():
    x = leaf(2)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match=r"hook: expected None or a Tensor of shape \(2,\)"):
        (x * 2).sum().backward()


def test_retain_grad():
    x = leaf(2)
    h = x * 3
    h.retain_grad()
    (h * h).sum().backward()
    np.testing.assert_allclose(h.grad.numpy(), 2 * h.numpy())
    with pytest.raises(RuntimeError, match="does not require"):
        Tensor([1.0]).retain_grad()
    with pytest.raises(RuntimeError, match="does not require"):
        Tensor([1.0]).register_hook(print)


# ---- changes in place


def add_one(t):
    t += 1


@pytest.mark.parametrize(
    "change",
    [
        lambda h: add_one(h),
        lambda h: h.__setitem__(0, 5.0),
        lambda h: setattr(h, "data", h.data * 2),
        lambda h: exec("h.data += 1", {"h": h}),
    ],
)
def test_changing_a_needed_array_is_refused(change):
    x = leaf(3)
    h = x * 2
    y = (h * h).sum()
    with ag.no_grad():
        change(h)
    with pytest.raises(RuntimeError, match="multiply needs an array that was changed in place"):
        y.backward()


def test_an_optimizer_step_between_forward_and_backward_is_noticed():
    w, x = leaf(3), leaf(3, seed=1)
    loss = (w * x).sum()
    w.data -= 0.1
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_a_change_through_a_view_is_noticed():
    x = leaf(2, 3)
    h = x * 2
    y = ag.exp(h)
    z = y.sum()
    with ag.no_grad():
        y.reshape(6)[0] = 1.0
    with pytest.raises(RuntimeError, match="exp needs an array"):
        z.backward()


def test_changing_an_array_that_nothing_needs_is_fine():
    x = leaf(3)
    h = x + 1
    y = (h + 2).sum()
    with ag.no_grad():
        h += 1
    y.backward()
    assert x.grad.tolist() == [1.0] * 3


def test_in_place_operations_are_differentiable():
    x = leaf(3)
    h = x * 2
    array = h.data
    h += x
    h *= 3
    assert h.data is array
    np.testing.assert_allclose(h.numpy(), 9 * x.numpy())
    h.sum().backward()
    assert x.grad.tolist() == [9.0] * 3


def test_item_assignment_is_differentiable():
    x, v = leaf(4), leaf(2, seed=1)
    h = x * 2
    h[1:3] = v
    (h * Tensor([1.0, 2.0, 3.0, 4.0], dtype="float64")).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0, 8.0]
    assert v.grad.tolist() == [2.0, 3.0]
    h = x.detach()
    h[np.array([0, 3])] = 7
    assert x.data[[0, 3]].tolist() == [7, 7]


def test_in_place_change_of_a_leaf_or_of_a_viewed_tensor_is_refused():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        x += 1
    with pytest.raises(RuntimeError, match="leaf that requires a gradient"):
        x[0] = 1
    h = x * 2
    v = h[1:]
    with pytest.raises(RuntimeError, match="shares its memory with a view"):
        v += 1
    np.testing.assert_array_equal(h.numpy(), 2 * x.numpy())
    with ag.no_grad():
        x += 1  # what an optimizer does


def test_in_place_change_keeps_shape_and_dtype():
    x = Tensor(np.zeros(3, "float32"))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        x += np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="float64"):
        x += np.zeros(3)
    with pytest.raises(TypeError, match="expected float32, got float64"):
        x.data = np.zeros(3)
    with pytest.raises(TypeError, match="expected float32, got float64"):
        x[0] = Tensor(np.zeros(()))


# ---- dtypes


def test_dtypes_of_new_tensors():
    assert Tensor(1.0).dtype == Tensor([1.0, 2]).dtype == np.float32
    assert Tensor([1, 2]).dtype == np.int64 and Tensor([True]).dtype == bool
    assert Tensor(np.zeros(2)).dtype == np.float64
    assert Tensor(np.zeros(2, "float16")).dtype == np.float32
    assert Tensor(np.zeros(2, ">f4")).dtype == np.float32
    assert Tensor([1, 2], dtype="float64").dtype == np.float64
    array = np.zeros(3)
    assert Tensor(array).data is array and ag.tensor(array).data is not array


@pytest.mark.parametrize("data", [1j, "text", np.zeros(2, complex)])
def test_other_data_is_refused(data):
    with pytest.raises(TypeError, match="dtype"):
        Tensor(data)


def test_objects_are_numbers_or_refused():
    assert Tensor(np.zeros(2, object)).numpy().tolist() == [0, 0]
    with pytest.raises(ValueError, match="missing value"):
        Tensor([None])


def test_promotion():
    f, d, i, b = (Tensor(np.ones(2, t)) for t in ("float32", "float64", "int64", "bool"))
    assert (f + d).dtype == np.float64
    assert (f + i).dtype == (f * b).dtype == np.float32
    assert (i + i).dtype == (i * 2).dtype == (b + b).dtype == (b + 1).dtype == np.int64
    assert (i * 2.5).dtype == (i / i).dtype == ag.exp(i).dtype == i.mean().dtype == np.float32
    assert (f * 2.5).dtype == (f * np.float64(2.5)).dtype == (2**f).dtype == np.float32
    assert (f > 1).dtype == (i == i).dtype == bool
    assert i.sum().dtype == b.sum().dtype == i.cumsum(0).dtype == np.int64
    assert (i @ i).dtype == np.int64


def test_gradients_come_back_in_the_dtype_of_their_leaf():
    f = Tensor(np.ones(2, "float32"), requires_grad=True)
    d = Tensor(np.ones(2), requires_grad=True)
    (f * d).sum().backward()
    assert f.grad.dtype == np.float32 and d.grad.dtype == np.float64


def test_only_floats_have_gradients():
    with pytest.raises(TypeError, match="int64"):
        Tensor([1], requires_grad=True)
    with pytest.raises(TypeError, match="bool"):
        Tensor([True]).requires_grad = True
    x = leaf(2)
    with pytest.raises(RuntimeError, match="detach"):
        (x * 2).requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad


# ---- a good neighbor to numpy and Python


def test_numpy_on_the_left_gives_a_tensor():
    x = leaf(3)
    for y in (np.ones(3) * x, np.ones((2, 3)) + x, np.float64(2) - x, np.ones((2, 3)) @ x, np.exp(x), np.ones(3) > x):
        assert isinstance(y, Tensor)
    (np.ones((2, 3)) @ x).sum().backward()
    assert x.grad.tolist() == [2.0] * 3
    with pytest.raises(TypeError, match="np.cbrt: not available"):
        np.cbrt(x)


def test_numpy_may_not_cut_the_graph_in_silence():
    x = leaf(3)
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x)
    assert np.asarray(x.detach()) is x.data
    assert x.numpy() is x.data


def test_python_protocols():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2 and [row.tolist() for row in x] == [[1, 2], [3, 4]]
    assert float(x[0, 1]) == 2.0 and int(x[1, 1]) == 4 and bool(x[0, 0])
    assert [10, 20, 30][Tensor(1)] == 20
    assert 3.0 in x and 7.0 not in x
    assert x in {x} and {x: 1}[x] == 1
    assert (x == None) is False  # noqa: E711
    assert (x.shape, x.ndim, x.size, x.T.tolist()) == ((2, 2), 2, 4, [[1, 3], [2, 4]])
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        x.item()
    with pytest.raises(TypeError, match="no length"):
        len(Tensor(1.0))
    with pytest.raises(TypeError, match="cannot be iterated"):
        iter(Tensor(1.0))
    with pytest.raises(TypeError, match="float32"):
        [1][Tensor(0.0)]


def test_repr():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
    assert repr(Tensor(np.zeros(1), requires_grad=True)) == "Tensor([0.], dtype=float64, requires_grad=True)"
    assert repr(ag.exp(Tensor(0.0, requires_grad=True))) == "Tensor(1., grad_fn=<exp>)"


def test_copies_and_pickles():
    x = leaf(2)
    x.grad = Tensor(np.ones(2))
    twin = copy.deepcopy(x)
    assert twin.requires_grad and twin.data is not x.data and twin.grad.tolist() == [1, 1]
    back = pickle.loads(pickle.dumps(x))
    assert back.requires_grad and back.tolist() == x.tolist()
    for f in (copy.deepcopy, pickle.dumps, copy.copy):
        with pytest.raises(RuntimeError, match="detach"):
            f(x * 2)


# ---- errors teach


@pytest.mark.parametrize(
    ("f", "error", "text"),
    [
        (lambda x: x + np.zeros(4), ValueError, r"add: shapes \(2, 3\) and \(4,\) do not broadcast"),
        (lambda x: x @ x, ValueError, r"matmul: shapes \(2, 3\) and \(2, 3\) do not fit"),
        (lambda x: x @ Tensor(2.0), ValueError, "matmul: shapes"),
        (lambda x: x.sum(2), IndexError, r"sum: axis 2 is out of range for a tensor with 2 axes \(allowed: -2..1\)"),
        (lambda x: x.sum((0, 0)), ValueError, "same axis twice"),
        (lambda x: x.mean(0.5), TypeError, "mean: expected an int"),
        (lambda x: x.reshape(4), ValueError, r"6 elements of shape \(2, 3\) do not fit into shape \(4,\)"),
        (lambda x: x.permute(0, 0), ValueError, "same axis twice"),
        (lambda x: x.squeeze(0), ValueError, "axis 0 of shape"),
        (lambda x: x.broadcast_to(4, 3), ValueError, r"shape \(2, 3\) does not broadcast to \(4, 3\)"),
        (lambda x: x[5], IndexError, "out of bounds"),
        (lambda x: x[0.5], IndexError, "expected integers"),
        (lambda x: x[np.zeros(2)], IndexError, "float64"),
        (lambda x: ag.take(x, [7]), IndexError, "run from 7 to 7, but the axis has size 2"),
        (lambda x: ag.gather(x, 1, [[0.5]]), TypeError, "integer indices"),
        (lambda x: ag.where(x, x, x), TypeError, "where: expected a bool condition, got float64"),
        (lambda x: ag.concatenate([x, x.T]), ValueError, r"shapes \(2, 3\) and \(3, 2\) differ"),
        (lambda x: ag.concatenate([]), ValueError, "at least one"),
        (lambda x: ag.stack([x, x.T]), ValueError, "equal shapes"),
        (lambda x: ag.split(x, [1, 3]), ValueError, "add up to 4, but axis 0 has 2"),
        (lambda x: ag.einsum("ij,jk->ik", x, x), ValueError, "letter 'j' stands for sizes"),
        (lambda x: ag.einsum("ij->iz", x), ValueError, "no operand has"),
        (lambda x: ag.einsum("ij->ii", x), ValueError, "'ii' of 'ij->ii' has a letter twice .* expected each letter once, out of i, j"),
        (lambda x: ag.einsum("...j->...z", x), ValueError, "the result '...z' of"),
        (lambda x: ag.einsum("ij,jk", x), ValueError, "names 2 operands, got 1; expected as many"),
        (lambda x: ag.einsum("->"), ValueError, "names 1 operands, got 0"),
        (lambda x: ag.einsum(x, "ij->i"), TypeError, "subscripts come first, as a str like .* got a value of type Tensor"),
        (lambda x: ag.einsum("ijk->i", x), ValueError, r"'ijk' does not fit operand 0 of shape \(2, 3\); expected one letter per"),
        (lambda x: ag.einsum("i1->i", x), ValueError, "'i1' does not fit"),
        (lambda x: ag.einsum("...,...", x, x.T), ValueError, "einsum: ... stands for sizes 2 and 3 in .* expected axes of one size"),
        (lambda x: ag.einsum("ij,kj", x, x.T), ValueError, "letter 'j' stands for sizes 3 and 2 in .*page Einstein's notation"),
        (lambda x: x[:0].max(), ValueError, "max of no elements"),
        (lambda x: x.backward(), ValueError, "expected a scalar or an explicit gradient"),
        (lambda x: (x * 2).backward(np.ones(3)), ValueError, r"expected a gradient of shape \(2, 3\)"),
        (lambda x: x.detach().sum().backward(), RuntimeError, "requires_grad=True"),
        (lambda x: Tensor([x, x]), TypeError, "stack"),
        (lambda x: Tensor([[1.0], [1.0, 2.0]]), ValueError, "rectangular"),
        (lambda x: x + "a", TypeError, "add"),
        (lambda x: x.astype("complex64"), TypeError, "complex64"),
        (lambda x: ag.pad(x, [(1, 1)]), ValueError, "2 pairs"),
    ],
)
def test_errors_name_the_operation_and_what_met(f, error, text):
    with pytest.raises(error, match=text):
        f(leaf(2, 3))


# ---- functions of functions


def test_grad_is_nestable():
    d3 = ag.grad(ag.grad(ag.grad(lambda x: x**4)))
    assert d3(2.0).item() == 48.0
    assert not ag.grad(lambda x: x**2)(3.0).requires_grad


def test_grad_does_not_confuse_inner_and_outer_variables():
    # d/dx [ x * d/dy (x + y)|_{y=1} ] = 1, the case on which careless nesting answers 2
    assert ag.grad(lambda x: x * ag.grad(lambda y: x + y)(1.0))(1.0).item() == 1.0
    # d/dx [ d/dy (x y^2) at y=3 ] = 2 * 3
    assert ag.grad(lambda x: ag.grad(lambda y: x * y**2)(3.0))(2.0).item() == 6.0


def test_grad_leaves_other_tensors_alone_but_can_reach_them():
    w = Tensor(2.0, requires_grad=True)
    g = ag.grad(lambda x: w * x**2)(3.0)
    assert g.item() == 12.0 and w.grad is None
    g.backward()
    assert w.grad.item() == 6.0


def test_grad_of_several_arguments_and_of_unused_ones():
    gx, gz = ag.grad(lambda x, y, z: x * y, argnums=(0, 2))(2.0, 3.0, [1.0, 1.0])
    assert gx.item() == 3.0 and gz.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="one element"):
        ag.grad(lambda x: x)([1.0, 2.0])
    with pytest.raises(TypeError, match="int64"):
        ag.grad(lambda x: x)(1)
    with pytest.raises(ValueError, match="argument 3"):
        ag.grad(lambda x: x, argnums=3)(1.0)


def test_hessian_vector_product_of_a_small_network():
    rng = np.random.default_rng(0)
    W, X, v = rng.standard_normal((4, 3)), rng.standard_normal((5, 4)), rng.standard_normal((4, 3))

    def loss(W):
        return (ag.logsumexp(ag.tanh(X @ W), axis=1)).mean()

    hv = ag.grad(lambda W: (ag.grad(loss)(W) * v).sum())(W).numpy()
    eps = 1e-5
    numeric = (ag.grad(loss)(W + eps * v).numpy() - ag.grad(loss)(W - eps * v).numpy()) / (2 * eps)
    np.testing.assert_allclose(hv, numeric, rtol=1e-6, atol=1e-9)


def test_create_graph_accumulates_differentiable_gradients():
    x = Tensor(2.0, requires_grad=True)
    (x**3).backward(create_graph=True)
    g = x.grad
    assert g.item() == 12.0 and g.requires_grad
    x.grad = None
    g.backward()
    assert x.grad.item() == 12.0


def test_grad_check_accepts_right_and_names_wrong_gradients():
    assert ag.grad_check(lambda x, y: x @ y, np.random.default_rng(0).standard_normal((2, 3)), np.ones((3, 2)))
    wrong = ag.elementwise_op(lambda x: x * x, lambda x: 3.0 * x, name="wrong")
    with pytest.raises(AssertionError, match=r"input 1, entry \(0, 1\): backward says 6, central differences say 4 "):
        ag.grad_check(lambda a, b: (a + wrong(b)).sum(), [1.0], [[0.0, 2.0]])
    with pytest.raises(TypeError, match="float32"):
        ag.grad_check(lambda x: x.astype("float32"), [1.0])
    x = Tensor([1.0, 2.0], requires_grad=True)
    ag.grad_check(lambda x: x**2, x)
    assert x.tolist() == [1.0, 2.0] and x.grad is None


def test_elementwise_op_checks_its_derivatives():
    cube = ag.elementwise_op(lambda x: x * x * x, lambda x: 3 * x * x, name="cube")
    assert cube([1, 2]).tolist() == [1.0, 8.0] and cube.__name__ == "cube"
    x = Tensor(2.0, requires_grad=True)
    assert ag.grad(ag.grad(cube))(x).item() == 12.0
    with pytest.raises(TypeError, match="expected 1 derivatives"):
        ag.elementwise_op(lambda x: x, 1, 1, name="bad")
    with pytest.raises(TypeError, match="asks for 'z'"):
        ag.elementwise_op(lambda x: x, lambda z: z, name="bad")


def test_formulas_work_on_tensors_through_the_vocabulary():
    x = leaf(3)
    y = kernels.where(x > 0, kernels.exp(x), kernels.tanh(x))
    np.testing.assert_allclose(y.numpy(), np.where(x.data > 0, np.exp(x.data), np.tanh(x.data)))
    assert ag.grad_check(lambda x: kernels.sigmoid(x) * kernels.erf(x), x.data)


# ---- drawings


def test_draw_shows_names_shapes_and_values():
    w, x = Tensor([[2.0]], requires_grad=True), Tensor([[3.0]], requires_grad=True)
    loss = ag.tanh(w @ x).sum()
    loss.backward(retain_graph=True)
    svg = str(ag.draw(loss, {"w": w}))
    xml.dom.minidom.parseString(svg)
    for text in (
        ">w<",
        ">matmul<",
        ">tanh<",
        ">sum<",
        "shape (1, 1)",
        "value [[6.]]",
        "currentColor",
        "<title>",
        "grad ",
    ):
        assert text in svg
    assert ag.draw(Tensor(1.0))._repr_html_().startswith("<svg")
    for leaf in (Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((2, 3))), Tensor([0.0], requires_grad=True)):
        assert f"leaf {leaf.shape}" in str(ag.draw(leaf))  # its truth is not asked for
    with pytest.raises(RuntimeError, match="used up"):
        loss.backward()
        ag.draw(loss)


def test_draw_refuses_what_nobody_can_read():
    y = Tensor(1.0, requires_grad=True)
    for _ in range(301):
        y = -y
    with pytest.raises(ValueError, match="302 nodes"):
        ag.draw(y)
