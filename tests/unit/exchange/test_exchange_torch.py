"""Weights in PyTorch's order: read, written, refused. What PyTorch computes stands here as its documentation has it: y = x W^T + b."""
import io

import numpy as np
import pytest

from deepnotes import _safetensors, checkpoints, layers
from deepnotes._modules import ForeignWeights
from deepnotes.autograd import Tensor, no_grad
from deepnotes.convolution import Conv2d
from deepnotes.exchange import from_torch, to_torch

KINDS = {"0.weight": (4, 4), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "1.running_mean": (4,), "1.running_var": (4,),
         "1.num_batches_tracked": (), "4.weight": (3, 4), "4.bias": (3,)}


def net():
    return layers.Sequential(layers.Linear(4, 4, rng=0), layers.BatchNorm1d(4), layers.ReLU(), layers.Dropout(0.1, rng=0),
                             layers.Linear(4, 3, rng=0))


def torch_state(seed=0):
    """A state as PyTorch's Sequential of the same layers has it."""
    rng = np.random.default_rng(seed)
    state = {name: rng.uniform(0.5, 1.5, shape).astype("f4") for name, shape in KINDS.items()}
    state["0.weight"] = rng.normal(size=(4, 4)).astype("f4")
    return {**state, "1.num_batches_tracked": np.array(7)}


def torch_answer(state, x):
    """What PyTorch's layers give in evaluation mode, in float64."""
    s = {name: a.astype(float) for name, a in state.items()}
    z = x @ s["0.weight"].T + s["0.bias"]
    z = (z - s["1.running_mean"]) / np.sqrt(s["1.running_var"] + 1e-5) * s["1.weight"] + s["1.bias"]
    return np.maximum(z, 0) @ s["4.weight"].T + s["4.bias"]


def file_of(state, metadata=None):
    return io.BytesIO(_safetensors.save(state, metadata))


X = np.random.default_rng(1).normal(size=(5, 4))


def answer(model):
    with no_grad():
        return model.eval()(Tensor(X.astype("f4"))).data


def test_a_file_of_pytorch_computes_what_it_computes_there(tmp_path):
    state = torch_state()
    (tmp_path / "weights.safetensors").write_bytes(_safetensors.save(state, {"format": "pt"}))
    for source in (tmp_path / "weights.safetensors", str(tmp_path / "weights.safetensors"), file_of(state), state):
        model = net()
        assert from_torch(model, source) == ([], [])
        np.testing.assert_allclose(answer(model), torch_answer(state, X), rtol=1e-4, atol=1e-5)


def test_there_and_back_is_the_same(tmp_path):
    state, model = torch_state(), net()
    from_torch(model, state)
    back = to_torch(model)
    assert sorted(back) == sorted(KINDS), "and so no state of the dropout"
    assert all(np.array_equal(back[name], state[name]) and back[name].flags.c_contiguous for name in KINDS)
    checkpoints.save_weights(back, tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    assert b'"format":"pt"' in data and b"deepnotes" not in data
    other = net()
    from_torch(other, tmp_path / "w.safetensors")
    assert np.array_equal(answer(other), answer(model))


def test_dropout_draws_on_as_it_did():
    model = net()
    before = model.state_dict()["3.state"]
    from_torch(model, torch_state())
    assert np.array_equal(model.state_dict()["3.state"], before)


@pytest.mark.parametrize("layer, turned", [
    (layers.Linear(3, 3), True), (layers.Linear(3, 2, bias=False), True), (layers.Embedding(4, 4), False),
    (layers.LayerNorm((3, 3)), False), (layers.RMSNorm((3, 3)), False), (layers.PReLU(3), False), (layers.BatchNorm1d(3), False),
    (layers.GroupNorm(1, 3), False), (layers.InstanceNorm1d(3, affine=True), False), (layers.InstanceNorm2d(3, affine=True), False),
    (layers.Maxout(3, 3, pieces=1), True),
    (layers.Residual(layers.Linear(3, 3), scale=0.5), True), (layers.MLP(3, [3], 3, norm="layer"), True)],
    ids=lambda value: type(value).__name__)
def test_each_layer_that_holds_arrays(layer, turned):
    """Only what a Linear calls weight is turned; nothing else may be."""
    theirs = to_torch(layer)
    for name, array in layer.state_dict().items():
        linear = turned and array.ndim == 2 and name.endswith("weight")
        assert np.array_equal(theirs[name], array.T if linear else array)


def test_a_convolution_has_its_axes_in_another_order():
    """The definition of PyTorch's conv2d, summed by hand: weight[o, c, a, b] meets x[c, i + a, j + b]."""
    rng = np.random.default_rng(0)
    weight, bias, x = rng.normal(size=(3, 3, 3, 3)), rng.normal(size=3), rng.normal(size=(1, 3, 4, 4))
    model = Conv2d(3, 3, 3, dtype=np.float64, rng=0)
    from_torch(model, {"weight": weight, "bias": bias})
    exact = [[[sum(weight[o, c, a, b] * x[0, c, i + a, j + b] for c in range(3) for a in range(3) for b in range(3)) + bias[o]
               for j in range(2)] for i in range(2)] for o in range(3)]
    with no_grad():
        np.testing.assert_allclose(model(Tensor(x)).data[0], exact, rtol=1e-10)
    back = to_torch(model)
    assert np.array_equal(back["weight"], weight)
    with pytest.raises(ValueError, match="Conv2d with other axes"):
        model.load_state_dict(back)
    with pytest.raises(ValueError, match="layout says 'transposed' of 'weight'"):
        from_torch(model, back, layout={"weight": "transposed"})
    oblong = Conv2d(2, 4, (3, 5), rng=0)
    assert to_torch(oblong)["weight"].shape == (4, 2, 3, 5)
    twin = Conv2d(2, 4, (3, 5), rng=1)
    from_torch(twin, to_torch(oblong))
    assert np.array_equal(twin.weight.data, oblong.weight.data)


def test_every_layer_of_the_library_has_a_rule():
    """A layer that is new and holds a matrix must say here which way round PyTorch has it."""
    holding = {"Linear", "Embedding", "LayerNorm", "RMSNorm", "PReLU", "BatchNorm1d", "GroupNorm", "Residual", "Dropout", "AlphaDropout",
               "Maxout", "MLP", "Sequential", "Parameter", "Module"}
    kinds = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    assert {name for name in kinds if name not in holding and holds_arrays(getattr(layers, name))} == set()


def holds_arrays(kind):
    for arguments in ((), (3,), (3, 3), (3, 3, 3)):
        try:
            module = kind(*arguments)
        except (TypeError, ValueError):
            continue
        return bool(module.parameters() or module.buffers())
    raise AssertionError(f"{kind.__name__} is new: say in test_every_layer_of_the_library_has_a_rule what it holds")


@pytest.mark.parametrize("change, said", [
    (lambda s: s.pop("4.bias"), r"missing: 4.bias \(3,\)"),
    (lambda s: s.update({"5.weight": np.ones(2)}), r"unexpected: 5.weight \(2,\)"),
    (lambda s: s.update({"4.weight": s["4.weight"].T}), r"misshaped: 4.weight is \(4, 3\), expected \(3, 4\) as PyTorch has it, which fits "
                                                       "turned round: is it from this library"),
    (lambda s: s.update({"1.bias": np.ones(5)}), r"misshaped: 1.bias is \(5,\), expected \(4,\)"),
    (lambda s: s.update({"1.num_batches_tracked": np.array(1.5)}), "mistyped: 1.num_batches_tracked holds float64, expected int64")])
def test_what_does_not_fit_is_named_and_nothing_changes(change, said):
    state, model = torch_state(), net()
    before = model.state_dict()
    change(state)
    with pytest.raises(ValueError, match=said):
        from_torch(model, state)
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())


def test_parts_of_a_state():
    state, model = torch_state(), net()
    del state["4.bias"]
    bias = model[4].bias.data.copy()
    assert from_torch(model, {**state, "more": np.ones(2)}, strict=False) == (["4.bias"], ["more"])
    assert np.array_equal(model[4].bias.data, bias) and np.array_equal(model[4].weight.data, state["4.weight"].T)
    wrapped = {f"module.{name}": a for name, a in torch_state().items()}
    with pytest.raises(ValueError, match="the first is 'module.0.weight': prefix="):
        from_torch(model, wrapped)
    from_torch(model, {**wrapped, "head.weight": np.ones(1)}, prefix="module.")
    assert np.array_equal(model[0].weight.data, state["0.weight"].T)


class Own(layers.Module):
    """A module of the user's."""

    def __init__(self):
        self.mixing = layers.Parameter(np.arange(9.0, dtype="f4").reshape(3, 3))
        self.shift = layers.Parameter(np.zeros(3, "f4"))
        self.inner = layers.Linear(3, 3, rng=0)


def test_a_matrix_of_a_users_module_needs_a_word():
    model = Own()
    state = {"mixing": np.ones((3, 3)), "shift": np.ones(3), "inner.weight": np.arange(9.0).reshape(3, 3), "inner.bias": np.ones(3)}
    with pytest.raises(ValueError, match=r"mixing of shape \(3, 3\) belongs to a Own.*layout={'mixing': 'as_is'}"):
        from_torch(model, state)
    for way, turn in (("as_is", False), ("transposed", True)):
        state["mixing"] = np.arange(9.0).reshape(3, 3)
        from_torch(model, state, layout={"mixing": way})
        assert np.array_equal(model.mixing.data, state["mixing"].T if turn else state["mixing"])
        assert np.array_equal(model.inner.weight.data, state["inner.weight"].T)
        assert np.array_equal(to_torch(model, layout={"mixing": way})["mixing"], state["mixing"])
    with pytest.raises(ValueError, match="'mixng'"):
        to_torch(model, layout={"mixng": "as_is"})
    with pytest.raises(ValueError, match="'turned'"):
        to_torch(model, layout={"mixing": "turned"})


def test_other_things_are_refused(tmp_path):
    for start in (b"PK\x03\x04", b"\x80\x02"):
        (tmp_path / "weights.pt").write_bytes(start + b"\0" * 64)
        with pytest.raises(ValueError, match="written by torch.save.*save_file"):
            from_torch(net(), tmp_path / "weights.pt")
    checkpoints.save_weights(net(), tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match="written by this library"):
        from_torch(net(), tmp_path / "ours.safetensors")
    with pytest.raises(TypeError, match="expected a state_dict of PyTorch"):
        from_torch(net(), 3)
    with pytest.raises(OSError):
        from_torch(net(), tmp_path / "not there.safetensors")


# ── A plain load_state_dict ──────────────────────────────────────────────────────────────────────────────────────────


class Tensr:
    """What a tensor of PyTorch looks like from outside."""

    __module__ = "torch"

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, "torch.float32"

    def __array__(self, dtype=None, copy=None):
        return self.array

    def detach(self):
        return self

    cpu = detach

    def numpy(self):
        return self.array


class Lent(np.ndarray):
    """An array in the memory of such a tensor."""

    __module__ = "torch"


def test_tensors_are_read():
    model = net()
    from_torch(model, {name: Tensr(a) for name, a in torch_state().items()})
    np.testing.assert_allclose(answer(model), torch_answer(torch_state(), X), rtol=1e-4, atol=1e-5)


def test_a_square_matrix_of_others_does_not_go_in_by_the_plain_door(tmp_path):
    state = {"weight": np.arange(9.0, dtype="f4").reshape(3, 3), "bias": np.zeros(3, "f4")}
    (tmp_path / "w.safetensors").write_bytes(_safetensors.save(state, {"format": "pt"}))
    (tmp_path / "bare.safetensors").write_bytes(_safetensors.save(state))
    lent = np.asarray(state["weight"].view(Lent)[:])
    assert type(lent) is np.ndarray
    for foreign in ({**state, "weight": Tensr(state["weight"])}, {**state, "weight": lent}, to_torch(layers.Linear(3, 3)),
                    checkpoints.load_weights(tmp_path / "w.safetensors"), checkpoints.load_weights(tmp_path / "bare.safetensors")):
        model = layers.Linear(3, 3, rng=0)
        before = model.weight.data.copy()
        with pytest.raises(ValueError, match=r"weight of shape \(3, 3\) fits either way round.*from_torch"):
            model.load_state_dict(foreign)
        assert np.array_equal(model.weight.data, before)
    model.load_state_dict(dict(checkpoints.load_weights(tmp_path / "bare.safetensors")))
    assert np.array_equal(model.weight.data, state["weight"])


def test_what_is_ours_goes_in_as_before(tmp_path):
    model, twin = layers.Linear(3, 3, rng=0), layers.Linear(3, 3, rng=1)
    twin.load_state_dict(model.state_dict())
    checkpoints.save_weights(model, tmp_path / "w.safetensors")
    weights = checkpoints.load_weights(tmp_path / "w.safetensors")
    assert type(weights) is dict
    layers.Linear(3, 3).load_state_dict(weights)
    flat = file_of({"weight": np.ones((3, 2), "f4"), "bias": np.ones(2, "f4")})
    foreign = checkpoints.load_weights(flat)
    assert isinstance(foreign, ForeignWeights)
    layers.Linear(3, 2).load_state_dict(foreign)               # shapes tell: only a square one is in doubt
