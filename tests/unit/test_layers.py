"""Modules: names, nesting, state, shapes, starts, and errors that list what is wrong."""
from functools import partial

import numpy as np
import pytest

from deepnotes import initialization, layers
from deepnotes.autograd import Tensor, grad_check
from deepnotes.layers import MLP, Flatten, LeakyReLU, Linear, Module, Parameter, ReLU, Sequential


class Block(Module):
    def __init__(self, rng=None):
        self.inner = MLP(3, [4], 2, rng=rng)
        self.scale = Parameter([1.0, 2.0])

    def forward(self, x):
        return self.inner(x) * self.scale


def test_names_are_paths_own_parameters_first():
    names = [name for name, _ in Block().named_parameters()]
    assert names == ["scale", "inner.0.weight", "inner.0.bias", "inner.2.weight", "inner.2.bias"]
    assert [p.shape for p in Block().parameters()] == [(2,), (3, 4), (4,), (4, 2), (2,)]


def test_a_shared_module_is_listed_once():
    layer = Linear(3, 3)
    model = Sequential(layer, ReLU(), layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    model(Tensor(np.ones((1, 3), "float32"))).sum().backward()
    assert layer.bias.grad is not None


def test_linear_is_x_w_plus_b_over_the_last_axis():
    layer = Linear(3, 2, rng=0, dtype="float64", bias_init=partial(initialization.normal, std=1.0))
    for shape in [(3,), (4, 3), (2, 4, 3), (0, 3)]:
        x = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(layer(Tensor(x)).numpy(), x @ layer.weight.numpy() + layer.bias.numpy(), rtol=1e-12)
    assert Linear(3, 2, bias=False).parameters()[0].shape == (3, 2)


def test_gradients_reach_every_parameter():
    block, x = Block(rng=0), Tensor(np.random.default_rng(1).normal(size=(5, 3)).astype("float32"))
    block(x).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


@pytest.mark.parametrize("activation", ["leaky_relu", "sigmoid", "tanh", "softplus"])
def test_mlp_gradient_by_finite_differences(activation):
    model = MLP(3, [5, 4], 2, activation=activation, rng=0, dtype="float64")
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    grad_check(lambda x: (model(x) * model(x)).sum(), x)
    model.zero_grad()
    weight, values = model[0].weight, model[0].weight.numpy().copy()

    def loss(w):
        h = getattr(layers.activations, activation)(x.detach() @ w + model[0].bias)
        for i in range(2, len(model)):
            h = model[i](h)
        return h.sum()

    loss(weight).backward()
    w = Tensor(values, requires_grad=True)
    grad_check(loss, w)
    loss(w).backward()
    np.testing.assert_allclose(weight.grad.numpy(), w.grad.numpy(), rtol=1e-12)


def test_default_start_suits_the_activation():
    relu, tanh = MLP(400, [300], 10, activation="relu", rng=0), MLP(400, [300], 10, activation="tanh", rng=0)
    assert abs(relu[0].weight.numpy().std() / np.sqrt(2 / 400) - 1) < 0.02
    assert abs(tanh[0].weight.numpy().std() / np.sqrt(2 / 700) - 1) < 0.02
    assert abs(relu[2].weight.numpy().std() / np.sqrt(2 / 310) - 1) < 0.06       # no activation behind the last layer
    assert not relu[0].bias.numpy().any()
    flat = MLP(4, [3], 2, weight_init=lambda shape, rng, dtype: initialization.constant(shape, 0.5, dtype=dtype))
    assert (flat[0].weight.numpy() == 0.5).all()


def test_same_seed_same_weights():
    one, two, other = (MLP(8, [5], 3, rng=seed).state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["0.weight"], other["0.weight"])
    rng = np.random.default_rng(1)
    assert np.array_equal(MLP(8, [5], 3, rng=rng).state_dict()["2.weight"], one["2.weight"])


def test_dtypes():
    assert {p.dtype for p in MLP(3, [4], 2).parameters()} == {np.dtype("float32")}
    assert {p.dtype for p in MLP(3, [4], 2, dtype="float64").parameters()} == {np.dtype("float64")}


def test_state_dict_is_a_copy_and_comes_back():
    one, two = Block(rng=0), Block(rng=1)
    state = one.state_dict()
    two.load_state_dict(state)
    x = Tensor(np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(one(x).numpy(), two(x).numpy())
    state["scale"][:] = 100
    assert one.scale.numpy()[0] == two.scale.numpy()[0] == 1


def test_load_state_dict_lists_everything_and_changes_nothing():
    block = Block(rng=0)
    before, state = block.state_dict(), Block(rng=1).state_dict()
    state["inner.0.weight"] = np.zeros((4, 3))
    del state["inner.2.bias"]
    state["head.weight"] = np.zeros((2, 2))
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    for words in ("misshaped: inner.0.weight is (4, 3), expected (3, 4)", "missing: inner.2.bias (2,)",
                  "unexpected: head.weight (2, 2)", "chapter Modules"):
        assert words in message
    assert all(np.array_equal(before[name], value) for name, value in block.state_dict().items())


def test_a_loaded_state_invalidates_graphs_that_used_the_old_one():
    layer = Linear(2, 1, rng=0)
    x = Tensor(np.ones((1, 2), "float32"), requires_grad=True)
    y = layer(x).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError):
        y.backward()


def test_a_frozen_parameter_stays_in_the_state_but_gets_no_gradient():
    layer = Linear(2, 2)
    layer.weight.requires_grad = False
    layer(Tensor(np.ones((1, 2), "float32"))).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_train_and_eval_reach_all_levels():
    block = Block()
    assert block.training and block.inner[0].training
    assert block.eval() is block and not block.training and not block.inner[0].training
    assert block.train().inner[0].training


def test_sequential_and_flatten():
    model = Sequential(Flatten(), Linear(6, 2))
    assert len(model) == 2 and isinstance(model[0], Flatten) and isinstance(model[-1], Linear)
    assert model(Tensor(np.zeros((5, 2, 3), "float32"))).shape == (5, 2)
    assert Flatten()(Tensor(np.zeros((0, 2, 3), "float32"))).shape == (0, 6)
    assert Flatten()(Tensor(np.zeros(4, "float32"))).shape == (4, 1)
    assert MLP(3, [], 2)(Tensor(np.zeros((1, 3), "float32"))).shape == (1, 2)


def test_activation_may_be_a_module_factory():
    model = MLP(3, [4], 2, activation=lambda: LeakyReLU(0.2))
    assert repr(model[1]) == "LeakyReLU(negative_slope=0.2)"


def test_repr_shows_the_tree():
    assert repr(Linear(2, 3, bias=False)) == "Linear(2, 3, bias=False)"
    assert repr(Sequential(Linear(2, 3), Sequential(ReLU()))) == (
        "Sequential(\n  (0): Linear(2, 3)\n  (1): Sequential(\n    (0): ReLU()\n  )\n)")


X = Tensor(np.zeros((2, 3), "float32"))


@pytest.mark.parametrize("call, error, words", [
    (lambda: Linear(4, 2)(X), ValueError, r"shape \(2, 3\), but its last axis must hold 4 features"),
    (lambda: Linear(4, 2)(Tensor(1.0)), ValueError, "last axis"),
    (lambda: Linear(0, 2), ValueError, "in_features must be a positive integer, got 0"),
    (lambda: Linear(2, 2.0), ValueError, "out_features must be a positive integer, got 2.0"),
    (lambda: MLP(3, [4], 2, activation="rleu"), ValueError, "got 'rleu'"),
    (lambda: MLP(3, 4, 2), TypeError, r"such as \[128\], got 4"),
    (lambda: Sequential(Linear(2, 2), np.tanh), TypeError, "entry 1 is a ufunc"),
    (lambda: Module()(X), TypeError, "does not define forward"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter" in str(caught.value)


# What layers refuse, and what they take

RNG = np.random.default_rng(0)
REFUSED = {
    "a weight that is no matrix": (
        lambda: layers.linear(np.zeros((2, 3)), np.zeros(3)), ValueError, r"linear: the weight has shape \(3,\)"),
    "an initializer of another shape": (
        lambda: layers.Linear(2, 3, weight_init=lambda shape, **k: np.zeros(shape[::-1])), ValueError,
        r"Linear: weight_init gave shape \(3, 2\), expected \(2, 3\)"),
    "a rule by name": (lambda: layers.Linear(2, 3, weight_init="he"), TypeError, "Linear: weight_init must be a function"),
    "an activation that is a function": (
        lambda: layers.MLP(2, [3], 1, activation=lambda x: x), TypeError, "MLP: activation must be a name, or a class"),
    "a list for a norm": (lambda: layers.MLP(2, [3], 1, norm=["batch"]), (TypeError, ValueError), "norm"),
    "a negative eps": (lambda: layers.BatchNorm1d(3, eps=-1), ValueError, "BatchNorm1d: eps must be a number, at least 0"),
    "a text for an eps": (lambda: layers.LayerNorm(3, eps="small"), ValueError, "LayerNorm: eps must be a number"),
    "a momentum above 1": (lambda: layers.BatchNorm1d(3, momentum=2), ValueError, "momentum must be a number, from 0 to 1"),
    "half a feature": (lambda: layers.LayerNorm(2.5), ValueError, "LayerNorm: every size"),
    "nothing to normalize over": (lambda: layers.LayerNorm(()), ValueError, "LayerNorm: every size"),
    "one row without running averages": (
        lambda: layers.BatchNorm1d(3, track_running_stats=False).eval()(np.zeros((1, 3), np.float32)), ValueError,
        "expected more than 1 value per feature, got 1"),
    "a negative symbol": (lambda: layers.Embedding(4, 2, rng=0)(np.array([0, -1])), IndexError, "numbered from 0 to 3, got -1"),
    "half a padding symbol": (lambda: layers.Embedding(4, 2, padding_idx=1.5), ValueError, "padding_idx must be one of the 4"),
    "a rate of True": (lambda: layers.Dropout(True), ValueError, "Dropout"),
    "axes that are not there": (
        lambda: layers.Flatten(3)(np.zeros((2, 3), np.float32)), ValueError, r"Flatten: cannot join the axes from 3 to -1"),
    "no slopes": (lambda: layers.PReLU(0), ValueError, "PReLU: num_parameters"),
    "an argument that a unit does not take": (
        lambda: layers.Softmax(dim=1), TypeError, "Softmax: .*signature"),
    "a list for a state": (
        lambda: layers.Linear(2, 3).load_state_dict([1]), TypeError, "expected a dictionary of arrays by name, got list"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_named(what):
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        call()


def test_linear_takes_arrays_and_the_widest_dtype():
    x, weight, bias = RNG.standard_normal((4, 2)).astype("f4"), RNG.standard_normal((2, 3)).astype("f4"), RNG.standard_normal(3)
    y = layers.linear(x, weight, bias)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.numpy(), x.astype(float) @ weight + bias, rtol=1e-6)
    assert layers.linear(x, weight).dtype == np.float32


def test_flatten_joins_the_axes_between():
    x = RNG.standard_normal((2, 3, 4, 5)).astype("f4")
    for start, end, shape in ((1, -1, (2, 60)), (0, 1, (6, 4, 5)), (1, 2, (2, 12, 5)), (-2, -1, (2, 3, 20)), (2, 2, x.shape)):
        y = layers.Flatten(start, end)(x).numpy()
        assert y.shape == shape
        np.testing.assert_array_equal(y.reshape(-1), x.reshape(-1))


def test_an_mlp_of_classes_is_the_one_of_names():
    named = layers.MLP(4, [5, 6], 2, activation="prelu", norm="batch", rng=0, dtype="float64")
    made = layers.MLP(4, [5, 6], 2, activation=layers.PReLU, norm=layers.BatchNorm1d, rng=0, dtype="float64")
    assert [p.dtype for p in made.parameters()] == [np.float64] * len(named.parameters())
    assert {k: v.shape for k, v in named.state_dict().items()} == {k: v.shape for k, v in made.state_dict().items()}


def test_an_entry_of_a_sequence_can_be_replaced():
    model = layers.Sequential(layers.Linear(2, 3, rng=0), layers.ReLU(), layers.Linear(3, 1, rng=1))
    model[-2] = layers.Tanh()
    assert [type(module).__name__ for module in model] == ["Linear", "Tanh", "Linear"]
    with pytest.raises(TypeError, match="Sequential: entry 1 is a function"):
        model[1] = lambda x: x


def test_a_summary_leaves_buffers_as_they_were():
    model = layers.Sequential(layers.Linear(3, 4, rng=0), layers.BatchNorm1d(4), layers.Dropout(0.5, rng=0))
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    model.summary(3)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
