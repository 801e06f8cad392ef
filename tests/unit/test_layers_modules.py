"""The layers of chapter 06 against PyTorch, finite differences and their own promises."""
import inspect
import pickle
from copy import deepcopy

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import activations, kernels, layers
from deepnotes.autograd import Tensor, grad, grad_check
from deepnotes.layers import (
    MLP,
    AlphaDropout,
    BatchNorm1d,
    Dropout,
    Embedding,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    Maxout,
    Module,
    Parameter,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Sequential,
)

# Made by tests/data/make_layers.py.
TORCH = np.load(ROOT / "tests" / "data" / "layers.npz")

CASES = {
    "batch": lambda: BatchNorm1d(4, dtype="float64"),
    "batch_sequence": lambda: BatchNorm1d(4, dtype="float64"),
    "batch_average": lambda: BatchNorm1d(4, momentum=None, eps=1e-3, dtype="float64"),
    "batch_plain": lambda: BatchNorm1d(4, affine=False, dtype="float64"),
    "batch_untracked": lambda: BatchNorm1d(4, track_running_stats=False, dtype="float64"),
    "layer": lambda: LayerNorm(4, dtype="float64"),
    "layer_two_axes": lambda: LayerNorm((4, 5), eps=1e-3, dtype="float64"),
    "layer_no_bias": lambda: LayerNorm(5, bias=False, dtype="float64"),
    "rms": lambda: RMSNorm(4, dtype="float64"),
    "rms_two_axes": lambda: RMSNorm((4, 5), eps=1e-2, dtype="float64"),
    "group": lambda: layers.GroupNorm(2, 4, dtype="float64"),
    "group_of_rows": lambda: layers.GroupNorm(2, 4, eps=1e-3, dtype="float64"),
    "group_plain": lambda: layers.GroupNorm(4, 4, affine=False, dtype="float64"),
    "instance_sequence": lambda: layers.InstanceNorm1d(4, dtype="float64"),
    "instance_learned": lambda: layers.InstanceNorm1d(4, eps=1e-3, affine=True, dtype="float64"),
    "instance_image": lambda: layers.InstanceNorm2d(4, affine=True, dtype="float64"),
    "prelu": lambda: PReLU(4, dtype="float64"),
    "embedding": lambda: Embedding(5, 3, padding_idx=1, dtype="float64"),
}


def group(name):
    "The arrays of one case under a folder."
    return {key[len(name) + 1:]: TORCH[key] for key in TORCH.files if key.startswith(name + "/")}


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_equals_pytorch_in_both_modes(name, backend):
    module, x = CASES[name](), TORCH[f"{name}/x"]
    module.load_state_dict(group(f"{name}/start"))
    close = dict(rtol=1e-11, atol=1e-11)
    with kernels.backend(backend):
        for step in range(2):
            inputs = Tensor(x + step, requires_grad=True) if x.dtype.kind == "f" else Tensor(x)
            module.zero_grad()
            y = module(inputs)
            (y * np.linspace(0.5, 1.5, y.size).reshape(y.shape)).sum().backward()
            np.testing.assert_allclose(y.numpy(), TORCH[f"{name}/y{step}"], **close)
            if inputs.requires_grad:
                np.testing.assert_allclose(inputs.grad.numpy(), TORCH[f"{name}/dx{step}"], **close)
            gradients = group(f"{name}/d{step}")
            assert set(gradients) == {n for n, _ in module.named_parameters()}
            for n, p in module.named_parameters():
                np.testing.assert_allclose(p.grad.numpy(), gradients[n], **close)
        end = group(f"{name}/end")
        assert set(module.state_dict()) == set(end)
        for n, array in module.state_dict().items():
            assert array.shape == end[n].shape
            np.testing.assert_allclose(array, end[n], **close)
        np.testing.assert_allclose(module.eval()(Tensor(x)).numpy(), TORCH[f"{name}/eval"], **close)


@pytest.mark.parametrize("name", [n for n in CASES if n != "embedding"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_by_finite_differences(name, training):
    module = CASES[name]()
    module.load_state_dict(group(f"{name}/start"))
    module.train(training)
    x = TORCH[f"{name}/x"]
    grad_check(lambda x: module(x) ** 2, x)
    for n, p in module.named_parameters():
        values = p.numpy().copy()

        def f(w, n=n):
            setattr(module, n, w)
            return module(Tensor(x)) ** 2

        grad_check(f, values)
        setattr(module, n, p)


@pytest.mark.parametrize("make", [
    lambda: BatchNorm1d(3, affine=False, dtype="float64"),
    lambda: LayerNorm(3, elementwise_affine=False, dtype="float64"),
    lambda: RMSNorm(3, elementwise_affine=False, dtype="float64"),
    lambda: Linear(3, 2, activation="relu", rng=0, dtype="float64"),
])
def test_second_derivatives(make):
    module = make()
    x = np.random.default_rng(0).normal(size=(4, 3))
    grad_check(grad(lambda x: (module(x) ** 3).sum()), x)


def test_linear_is_one_operation_with_the_derived_gradients():
    rng = np.random.default_rng(0)
    for shape in [(5, 3), (2, 4, 3), (0, 3), (3,)]:
        x, layer = Tensor(rng.normal(size=shape), requires_grad=True), Linear(3, 2, rng=1, dtype="float64")
        y = layer(x)
        g = rng.normal(size=y.shape)
        y.backward(g)
        rows, gs = x.numpy().reshape(-1, 3), g.reshape(-1, 2)
        np.testing.assert_allclose(layer.weight.grad.numpy(), rows.T @ gs, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(layer.bias.grad.numpy(), gs.sum(0), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(x.grad.numpy(), g @ layer.weight.numpy().T, rtol=1e-12, atol=1e-13)
    with kernels.recording() as launches:
        Linear(3, 2, rng=0)(Tensor(np.zeros((4, 3), "float32")))
    assert [launch.kernel.name for launch in launches] == ["matmul", "add"]
    assert launches[0].out is launches[1].out                        # the bias goes into the product's array
    mixed = Linear(3, 2, rng=0)(Tensor(np.ones((1, 3))))
    assert mixed.dtype == np.float64
    grad_check(lambda x: Linear(3, 2, rng=0, dtype="float64")(x), rng.normal(size=(2, 2, 3)))


ACTIVATION_MODULES = {
    name: value for name, value in vars(layers).items()
    if isinstance(value, type) and issubclass(value, Module) and value.__module__ == "deepnotes.layers"
    and "Activations as modules" in (value.__doc__ or "")
}


def test_every_activation_of_chapter_3_is_a_module():
    functions = {unit[0].__name__ for unit in activations.UNITS.values()} | {"softmax", "log_softmax", "softmin", "maxout"}
    covered = {name.lower() for name in ACTIVATION_MODULES} | {"maxout"}
    assert {f.replace("_", "") for f in functions} <= covered, functions


@pytest.mark.parametrize("name", sorted(set(ACTIVATION_MODULES) - {"PReLU"}))
def test_activation_modules_are_their_functions(name):
    function = next(f for n, f in vars(activations).items()
                    if not n.startswith("_") and n.replace("_", "").lower() == name.lower() and callable(f))
    arguments = (0.5, -1.0) if name == "Threshold" else ()
    module, x = ACTIVATION_MODULES[name](*arguments), np.linspace(-3, 3, 24).reshape(4, 6).astype("float32")
    np.testing.assert_array_equal(module(Tensor(x)).numpy(), function(Tensor(x), *arguments).numpy())
    mine, its = inspect.signature(type(module)), list(inspect.signature(function).parameters.values())[1:]
    assert list(mine.parameters.values()) == its
    again = pickle.loads(pickle.dumps(module))
    assert repr(again) == repr(module)


def test_prelu_learns_its_slope():
    unit = PReLU(init=0.5)
    unit(Tensor([[-2.0, 3.0]])).sum().backward()
    assert unit.weight.grad.item() == -2.0 and repr(unit) == "PReLU(num_parameters=1)"


def test_dropout_zeroes_a_share_and_keeps_the_mean():
    x = Tensor(np.full((400, 500), 2.0, "float32"), requires_grad=True)
    y = Dropout(0.3, rng=0)(x)
    y.sum().backward()
    kept = y.numpy() != 0
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / kept.size)
    np.testing.assert_allclose(y.numpy()[kept], 2 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), kept * np.float32(1 / 0.7))
    assert not (y.numpy() == Dropout(0.3, rng=1)(x).numpy()).all()


def test_dropout_draws_anew_and_the_state_goes_on_where_it_was_saved():
    drop, x = Dropout(0.5, rng=3), Tensor(np.ones(64, "float32"))
    first = drop(x).numpy()
    state = drop.state_dict()
    second = drop(x).numpy()
    assert not np.array_equal(first, second)
    other = Dropout(0.5, rng=4)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other(x).numpy(), second)
    array = drop.state
    drop(x)
    assert drop.state is array                           # the same memory for life: capture replays on it


@pytest.mark.parametrize("kind", [Dropout, AlphaDropout])
def test_dropout_at_the_ends_and_in_evaluation(kind):
    x = Tensor(np.random.default_rng(0).normal(size=(50, 4)).astype("float32"))
    assert kind(0.0)(x) is x and kind(0.5).eval()(x) is x
    gone = kind(1.0)(x).numpy()
    assert np.isfinite(gone).all() and (gone == gone[0, 0]).all()
    for p in (-0.1, 1.1, float("nan"), "half"):
        with pytest.raises(ValueError, match="p must be a probability"):
            kind(p)
    drop = kind(0.4, rng=0)
    grad_check(lambda x: _fixed(drop, x), np.random.default_rng(1).normal(size=(5, 4)))


def _fixed(drop, x):
    "The same mask at every call."
    drop.state[1] = 0
    return drop(x)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance_for_any_sequence_of_layers(p):
    x = Tensor(np.random.default_rng(0).normal(size=400_000))
    y = AlphaDropout(p, rng=0)(x).numpy()
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02


def test_batch_norm_refuses_a_batch_of_one_only_in_training():
    norm = BatchNorm1d(3)
    with pytest.raises(ValueError, match="more than 1 value per feature"):
        norm(Tensor(np.zeros((1, 3), "float32")))
    assert norm.eval()(Tensor(np.zeros((1, 3), "float32"))).shape == (1, 3)
    assert norm.train()(Tensor(np.zeros((1, 3, 5), "float32"))).shape == (1, 3, 5)      # five values per feature
    assert norm.num_batches_tracked == 1


def test_batch_norm_state_changes_in_place_and_only_in_training():
    norm, x = BatchNorm1d(3), Tensor(np.random.default_rng(0).normal(2, 3, (8, 3)).astype("float32"))
    before = norm.running_mean
    norm(x)
    assert norm.running_mean is before and norm.running_mean.any()
    frozen = norm.running_mean.copy()
    norm.eval()(x)
    np.testing.assert_array_equal(norm.running_mean, frozen)
    assert BatchNorm1d(3, track_running_stats=False).state_dict().keys() == {"weight", "bias"}


@pytest.mark.parametrize("width", [1, 3])
def test_cumulative_average_is_the_mean_of_all_batches(width):
    norm, rng = BatchNorm1d(width, momentum=None, dtype="float64"), np.random.default_rng(0)
    batches = [rng.normal(size=(5, width)) for _ in range(4)]
    for batch in batches:
        norm(Tensor(batch))
    np.testing.assert_allclose(norm.running_mean, np.mean([b.mean(0) for b in batches], 0), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var, np.mean([b.var(0, ddof=1) for b in batches], 0), rtol=1e-12)


def test_a_step_of_every_module_is_launches_only():
    """Replaying the launches of a step on new data gives what running the step gives: nothing was computed outside."""
    model = Sequential(Linear(6, 8, rng=0), BatchNorm1d(8), ReLU(), Dropout(0.3, rng=1),
                       Residual(LayerNorm(8), Linear(8, 8, rng=2), PReLU(), AlphaDropout(0.1, rng=3), scale=0.5),
                       BatchNorm1d(8, momentum=None), RMSNorm(8), Maxout(8, 3, rng=4))
    twin = deepcopy(model)
    rng = np.random.default_rng(0)
    old, new = (rng.normal(size=(5, 6)).astype("float32") for _ in range(2))

    def step(m, x):
        m.zero_grad()
        y = m(x)
        y.sum().backward()
        return y

    x = Tensor(old.copy())
    with kernels.recording() as launches:
        y = step(model, x)
    step(twin, Tensor(old.copy()))
    x.data[...] = new
    kernels.replay(launches)
    expected = step(twin, Tensor(new))
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    for (name, one), (_, two) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        np.testing.assert_array_equal(one.grad.numpy(), two.grad.numpy(), err_msg=name)
    for (name, one), (_, two) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        np.testing.assert_array_equal(one, two, err_msg=name)


def test_an_embedding_step_is_launches_only():
    table = Embedding(6, 3, padding_idx=2, rng=0)
    x = Tensor(np.array([[0, 2, 5]]))
    with kernels.recording() as launches:
        table.zero_grad()
        y = table(x)
        y.sum().backward()
    x.data[...] = [[1, 1, 2]]
    kernels.replay(launches)
    np.testing.assert_array_equal(y.numpy(), table.weight.numpy()[[[1, 1, 2]]])
    np.testing.assert_array_equal(table.weight.grad.numpy(), np.outer([0, 2, 0, 0, 0, 0], [1, 1, 1]))


def test_embedding_padding_and_errors():
    table = Embedding(4, 2, padding_idx=-1, rng=0)
    assert not table.weight.numpy()[3].any() and repr(table) == "Embedding(4, 2, padding_idx=3)"
    assert table(Tensor(np.array(1))).shape == (2,)
    with pytest.raises(TypeError, match="expected integers, got float32"):
        table(Tensor([1.0]))
    with pytest.raises(IndexError):
        table(Tensor([4]))
    with pytest.raises(ValueError, match="one of the 4 symbols"):
        Embedding(4, 2, padding_idx=4)


def test_maxout_keeps_the_size_of_its_signal_with_two_pieces():
    layer = Maxout(300, 200, rng=0, dtype="float64")
    x = np.random.default_rng(0).normal(size=(500, 300))
    assert abs((layer(Tensor(x)).numpy() ** 2).mean() - 1) < 0.02
    assert Maxout(3, 2, pieces=4)(Tensor(np.zeros((5, 3), "float32"))).shape == (5, 2)


def test_residual_adds_and_refuses_to_broadcast():
    x = Tensor(np.ones((2, 3), "float32"))
    block = Residual(Linear(3, 3, rng=0), ReLU())
    np.testing.assert_allclose(block(x).numpy(), 1 + block.branch(x).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(Residual(Linear(3, 3, rng=0), scale=0.0)(x).numpy(), x.numpy())
    with pytest.raises(ValueError, match=r"turned shape \(2, 3\) into \(2, 1\)"):
        Residual(Linear(3, 1))(x)
    assert Residual(Linear(3, 1), shortcut=Linear(3, 1))(x).shape == (2, 1)
    names = [name for name, _ in Residual(Linear(3, 3), scale=1.0).named_parameters()]
    assert names == ["scale", "branch.0.weight", "branch.0.bias"]


def test_mlp_with_norm_and_dropout():
    plain, full = MLP(4, [5, 6], 2, rng=0), MLP(4, [5, 6], 2, rng=0, norm="layer", dropout=0.2)
    assert [type(m).__name__ for m in full] == ["Linear", "LayerNorm", "ReLU", "Dropout"] * 2 + ["Linear"]
    for one, two in zip([m for m in plain if isinstance(m, Linear)], [m for m in full if isinstance(m, Linear)], strict=True):
        np.testing.assert_array_equal(one.weight.numpy(), two.weight.numpy())
    assert not np.array_equal(full[3].state, full[7].state)
    batch = MLP(4, [5], 2, norm="batch")
    assert batch[0].bias is None and batch[-1].bias is not None     # the mean would take a bias away again
    assert isinstance(MLP(4, [5], 2, activation="selu", dropout=0.1)[2], AlphaDropout)
    assert isinstance(MLP(4, [5], 2, norm=lambda width: Identity())[1], Identity)
    for name in layers._ACTIVATIONS:
        assert np.isfinite(MLP(4, [5], 2, activation=name, rng=0)(Tensor(np.ones((2, 4), "float32"))).numpy()).all()
    with pytest.raises(ValueError, match="norm must be one of batch, layer, rms"):
        MLP(4, [5], 2, norm="group")


def test_starts_suit_the_activation_even_given_as_a_class():
    for activation, std in [("selu", 1 / 20), (layers.GELU, 2**0.5 / 20), ("gelu", 2**0.5 / 20), ("tanh", (2 / 700) ** 0.5)]:
        assert abs(MLP(400, [300], 1, activation=activation, rng=0)[0].weight.numpy().std() / std - 1) < 0.02
    with pytest.raises(ValueError, match="activation must be one of"):
        Linear(2, 2, activation="rleu")


def test_sequential_slices_iterates_and_grows():
    model = Sequential(Linear(2, 3), ReLU()).append(Linear(3, 1))
    assert [type(m) for m in model] == [Linear, ReLU, Linear]
    assert model[:2][0] is model[0] and len(model[1:]) == 2
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_flatten_from_an_axis():
    x = Tensor(np.arange(24.0).reshape(2, 3, 4))
    assert Flatten()(x).shape == (2, 12) and Flatten(0)(x).shape == (24,) and Flatten(2)(x).shape == (2, 3, 4)


def test_modules_in_lists_and_dictionaries_are_found():
    class Branches(Module):
        def __init__(self):
            self.blocks = [Linear(2, 2, rng=0), Linear(2, 2, rng=1)]
            self.heads = {"left": Linear(2, 1, rng=2)}
            self.gains = (Parameter([1.0]),)
            self.notes = ["text", 3]

    model = Branches()
    assert [n for n, _ in model.named_parameters()] == [
        "gains.0", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "heads.left.weight",
        "heads.left.bias"]
    other = Branches()
    other.blocks[1].weight.data[...] = 7
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.blocks[1].weight.numpy(), model.blocks[1].weight.numpy())
    assert not model.eval().blocks[0].training


def test_buffers_are_state_but_not_parameters():
    norm = BatchNorm1d(2)
    assert [n for n, _ in norm.named_buffers()] == ["running_mean", "running_var", "num_batches_tracked"]
    assert len(norm.parameters()) == 2
    with pytest.raises(ValueError, match="no name for a buffer"):
        norm.register_buffer("forward", np.zeros(1))
    norm.register_buffer("scratch", np.zeros(1), persistent=False)
    assert "scratch" not in norm.state_dict() and len(norm.buffers()) == 4
    assert BatchNorm1d(2)._buffers.keys() == {"running_mean", "running_var", "num_batches_tracked"}


def test_load_state_dict_not_strict_and_mistyped():
    model = Sequential(Linear(2, 2, rng=0), Dropout(rng=0))
    state = model.state_dict()
    state["1.state"] = np.zeros(2)
    with pytest.raises(ValueError, match="mistyped: 1.state holds float64, expected uint64"):
        model.load_state_dict(state)
    weight = model[0].weight.data
    result = model.load_state_dict({"0.weight": np.ones((2, 2)), "other": [1]}, strict=False)
    assert result.missing_keys == ["0.bias", "1.state"] and result.unexpected_keys == ["other"]
    assert model[0].weight.data is weight and (weight == 1).all()


def test_hooks_see_change_and_go():
    layer, seen = Linear(2, 1, rng=0), []
    x = Tensor([[1.0, 2.0]])
    plain = layer(x).numpy()
    look = layer.register_forward_hook(lambda module, args, y: seen.append((module, args[0], y.shape)))
    double = layer.register_forward_hook(lambda module, args, y: y * 2)
    np.testing.assert_array_equal(layer(x).numpy(), 2 * plain)
    assert seen == [(layer, x, (1, 1))]
    look.remove()
    look.remove()
    double.remove()
    np.testing.assert_array_equal(layer(x).numpy(), plain)
    assert len(seen) == 1


def test_summary_counts_shapes_and_leaves_no_trace():
    model = MLP(4, [5], 3, norm="batch", dropout=0.5, rng=0)
    shared = Sequential(model, model[-1:])
    before = shared.state_dict()
    model[0].requires_grad_(False)
    summary = model.summary(4)
    assert [(r.name, r.type, r.output_shape, r.parameters) for r in summary.rows] == [
        ("0", "Linear", ("n", 5), 20), ("1", "BatchNorm1d", ("n", 5), 10), ("2", "ReLU", ("n", 5), 0),
        ("3", "Dropout", ("n", 5), 0), ("4", "Linear", ("n", 3), 18)]
    assert (summary.parameters, summary.trainable) == (48, 28)
    assert "48 parameters, 28 of them trainable" in repr(summary)
    assert model.training and all(np.array_equal(before[n], v) for n, v in shared.state_dict().items())
    assert Embedding(5, 3).summary((7,), dtype="int64").rows[0].output_shape == ("n", 7, 3)
    with pytest.raises(ValueError):
        model.summary(5)
    assert not model[0]._forward_hooks and model.training            # also after an error


def test_copies_are_independent_and_complete():
    model = Sequential(Linear(2, 2, rng=0), BatchNorm1d(2), Dropout(0.5, rng=0))
    for twin in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [type(p) for p in twin.parameters()] == [Parameter] * 4
        x = Tensor(np.random.default_rng(0).normal(size=(4, 2)).astype("float32"))
        before = model[1].running_mean.copy()
        twin(x)
        np.testing.assert_array_equal(model[1].running_mean, before)
        assert twin[2].state[1] == 8 and model[2].state[1] == 0


@pytest.mark.parametrize("call, error, words", [
    (lambda: BatchNorm1d(3)(Tensor(np.zeros((2, 4)))), ValueError, r"shape \(2, 4\), expected \(n, 3\)"),
    (lambda: BatchNorm1d(0), ValueError, "num_features must be a positive integer"),
    (lambda: LayerNorm((2, 3))(Tensor(np.zeros((3, 2)))), ValueError, r"last axes must be \(2, 3\)"),
    (lambda: RMSNorm(3)(Tensor(np.zeros(()))), ValueError, "last axes must be"),
    (lambda: Maxout(2, 3, pieces=0), ValueError, "pieces must be a positive integer"),
    (lambda: layers.linear(Tensor(np.zeros((2, 3))), Parameter(np.zeros((3, 2))), Parameter(np.zeros(3))), ValueError, r"bias \(3,\)"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Layers" in str(caught.value)
