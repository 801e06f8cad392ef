"""ONNX out and in: every layer and random networks against onnxruntime; stored files of PyTorch and scikit-learn read to their answers.

`data/make_from_torch.py` and `data/make_from_sklearn.py` made the stored files.
"""

import inspect

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from conftest import ROOT

from deepnotes import convolution, layers
from deepnotes.autograd import Tensor, no_grad
from deepnotes.exchange import from_onnx, to_onnx
from deepnotes.exchange.onnx_writing import PLAIN, RULES

DATA = ROOT / "tests" / "data"
TORCH, SKLEARN = np.load(DATA / "torch" / "answers.npz"), np.load(DATA / "onnx" / "sklearn.npz")
SETTINGS = {  # none of them the default
    "Threshold": (0.3, -0.2), "Swish": (1.5,), "Softplus": (2.0,), "CELU": (1.3,), "ELU": (0.7,), "LeakyReLU": (0.2,),
    "Hardtanh": (-0.5, 2.0),
    "Softshrink": (0.3,), "Hardshrink": (0.3,), "Linear": (12, 5), "Maxout": (12, 5, 3), "BatchNorm1d": (12,), "LayerNorm": (12,),
    "RMSNorm": (12,), "PReLU": (12,), "GELU": ("tanh",), "Embedding": (9, 4), "Conv2d": (2, 3, (3, 2), (2, 1), (1, 0), (1, 2)),
    "MaxPool2d": ((3, 2), (2, 1), (1, 0)), "AvgPool2d": ((3, 2), (2, 1), (1, 0)),
    "GroupNorm": (3, 12, 1e-3), "InstanceNorm1d": (3, 1e-3, True), "InstanceNorm2d": (2, 1e-3, True),
}
KINDS = {kind.__name__: kind for kind in (*PLAIN, *RULES) if kind not in (layers.Sequential, layers.Residual)}


def ours(model, x):
    with no_grad():
        return model(Tensor(x)).numpy()


def run(path, x):
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    assert source.name == "input" and source.shape[0] == "batch"
    (found,) = session.run(["output"], {"input": x})
    return found


def agrees(model, x, path):
    to_onnx(model, x.shape[1:], path)
    want, got = ours(model, x), run(path, x)
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-5, rtol=1e-5)


def unlike_the_start(model, rng):
    for p in model.parameters():
        p.data = p.data + (0.2 * rng.normal(size=p.shape)).astype(p.dtype)
    for m in model.modules():
        if isinstance(m, layers.BatchNorm1d):
            m.running_mean = m.running_mean + rng.normal(size=m.num_features).astype("f")
            m.running_var = m.running_var * rng.uniform(0.5, 1.5, m.num_features).astype("f")
    return model.eval()


def test_every_layer_has_a_rule():
    every = {name for module in (layers, convolution) for name in module.__all__
             if inspect.isclass(getattr(module, name)) and issubclass(getattr(module, name), layers.Module)}
    assert every - {"Module", "MLP", "Sequential", "Residual"} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_means_the_same_elsewhere(name, tmp_path):
    rng = np.random.default_rng(0)
    model = unlike_the_start(layers.Sequential(KINDS[name](*SETTINGS.get(name, ()))), rng)
    shape = (5, 2, 8, 6) if name.endswith("2d") else (5, 3, 4) if name == "InstanceNorm1d" else (50, 12)
    x = (3 * rng.normal(size=shape)).astype("f")
    agrees(model, rng.integers(0, 9, (5, 3)) if name == "Embedding" else x, tmp_path / "layer.onnx")


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_mean_the_same_elsewhere(seed, tmp_path):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(2, 9))
    parts, units = [], ["ReLU", "Tanh", "GELU", "SiLU", "Softplus", "Mish", "ELU", "Hardswish", "LogSigmoid"]
    if seed % 3 == 0:
        parts += [layers.Embedding(9, width, rng=rng), layers.LayerNorm(width), layers.Linear(width, width, rng=rng), layers.Flatten()]
        x, width = rng.integers(0, 9, (7, 3)), 3 * width
    elif seed % 3 == 1:
        parts += [convolution.Conv2d(2, 3, 3, padding=1, rng=rng), layers.ReLU(), convolution.MaxPool2d(2), layers.Flatten()]
        x, width = rng.normal(size=(7, 2, 6, 4)).astype("f"), 18
    else:
        x = rng.normal(size=(7, width)).astype("f")
    for _ in range(rng.integers(1, 4)):
        branch = [layers.Linear(width, width, rng=rng), layers.RMSNorm(width), getattr(layers, rng.choice(units))(), layers.Dropout(0.3)]
        parts += [layers.BatchNorm1d(width), layers.Residual(*branch, scale=float(rng.uniform(0.2, 2)))]
        new = int(rng.integers(2, 9))
        around = layers.Linear(width, new, bias=False, rng=rng)
        parts.append(layers.Residual(layers.Linear(width, new, rng=rng), layers.Tanh(), shortcut=around))
        width = new
    model = unlike_the_start(layers.Sequential(*parts, layers.MLP(width, [5], 3, rng=rng), layers.Softmax()), rng)
    agrees(model, x, tmp_path / "network.onnx")


def test_the_batch_stays_open_and_double_stays_double(tmp_path):
    model = layers.Sequential(layers.Linear(3, 2, rng=0, dtype="float64"), layers.Tanh()).eval()
    to_onnx(model, 3, tmp_path / "m.onnx")
    for rows in (1, 4):
        x = np.random.default_rng(0).normal(size=(rows, 3))
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x), ours(model, x), atol=1e-12)


@pytest.mark.parametrize("model, words", [
    (layers.Sequential(layers.Dropout()), r"call model.eval\(\)"),
    (layers.Sequential(layers.Linear(3, 3), type("Mine", (layers.Module,), {"forward": lambda self, x: x})()).eval(),
     r"to_onnx: 1 \(Mine\) has no rule"),
    (layers.Sequential(layers.Sequential(type("Twice", (layers.ReLU,), {})())).eval(), r"to_onnx: 0.0 \(Twice\) has no rule"),
    (layers.Sequential(layers.BatchNorm1d(3, track_running_stats=False)).eval(), "0 .BatchNorm1d. has no running averages"),
    (layers.Sequential(layers.Flatten(1, 2)).eval(), "joins axes 1 to 2 of 4"),
])
def test_what_cannot_be_written_is_named(model, words):
    with pytest.raises(ValueError, match=words):
        to_onnx(model, (3, 3, 3) if "axes" in words else 3)


def test_hooks_are_code():
    model = layers.Sequential(layers.Linear(3, 3)).eval()
    model[0].register_forward_hook(lambda m, x, y: y)
    with pytest.raises(ValueError, match="0 .Linear. has forward hooks"):
        to_onnx(model, 3)


@pytest.mark.parametrize("name", ["dense", "convolutional"])
@pytest.mark.parametrize("exporter", ["", "_older"])
def test_what_pytorch_wrote_is_read(name, exporter):
    model = from_onnx(DATA / "onnx" / f"torch_{name}{exporter}.onnx")
    np.testing.assert_allclose(ours(model, TORCH[f"{name}/in"]), TORCH[f"{name}/out"], atol=1e-5)


@pytest.mark.parametrize("name, output", [*((name, None) for name in ("classifier", "sigmoids", "regressor", "one_target", "pipeline")),
                                          ("binary", "out_activations_result")])
def test_what_scikit_learn_computes_is_read(name, output):
    found, want = ours(from_onnx(DATA / "onnx" / f"sklearn_{name}.onnx", output), SKLEARN["X"]), SKLEARN[name]
    want = want[:, 1:] if name == "binary" else want.reshape(len(want), -1)
    np.testing.assert_allclose(found, want, atol=1e-5, rtol=1e-4)


def test_a_network_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    model = unlike_the_start(layers.MLP(4, [8, 6], 3, activation="gelu", norm="batch", dropout=0.2, rng=0), rng)
    x = rng.normal(size=(9, 4)).astype("f")
    to_onnx(model, 4, tmp_path / "m.onnx")
    twin = from_onnx(tmp_path / "m.onnx")
    np.testing.assert_array_equal(ours(twin, x), ours(model, x))
    assert not twin.training
    np.testing.assert_array_equal(ours(from_onnx(to_onnx(model, 4)), x), ours(model, x))


def test_two_classes_say_which_output_can_be_read():
    with pytest.raises(ValueError, match=r"sklearn_binary.onnx: node .*Concat.* joins .*output="):
        from_onnx(DATA / "onnx" / "sklearn_binary.onnx")
    with pytest.raises(ValueError, match="no value 'nothing'; the outputs are"):
        from_onnx(DATA / "onnx" / "sklearn_binary.onnx", "nothing")


def test_an_unknown_node_is_named(tmp_path):
    x = onnx_ir.val("x", dtype=onnx_ir.DataType.FLOAT, shape=["n", 3])
    tape = onnx_ir.tape.Tape()
    y = tape.op("Tan", [x], name="angle")
    y.name = "y"
    graph = onnx_ir.Graph([x], [y], nodes=tape.nodes, opset_imports={"": 20}, name="g")
    with pytest.raises(ValueError, match=r"node angle \(ai.onnx.Tan\) has no layer here"):
        from_onnx(onnx_ir.Model(graph, ir_version=10))


@pytest.mark.parametrize("name, model, shape", [
    ("1d", layers.InstanceNorm1d(3, 1e-3, affine=True), (3, 4)), ("2d", layers.InstanceNorm2d(2, 1e-3, affine=True), (2, 4, 3)),
    ("plain", layers.InstanceNorm2d(2), (2, 4, 3)),
])
def test_instances_come_back(name, model, shape, tmp_path):
    rng = np.random.default_rng(0)
    model = unlike_the_start(layers.Sequential(layers.Tanh(), model, layers.Flatten()), rng)
    x = rng.normal(size=(5, *shape)).astype("f")
    path = tmp_path / "m.onnx"
    agrees(model, x, path)
    np.testing.assert_allclose(ours(from_onnx(path), x), ours(model, x), atol=1e-6)
    np.testing.assert_allclose(ours(from_onnx(path), x), run(path, x), atol=1e-5)


def normalizing(op, opset, groups=None, eps=1e-3):
    "A graph of one node, as other libraries write it, whose channels have weights."
    rng = np.random.default_rng(1)
    parts = [onnx.numpy_helper.from_array(rng.normal(size=4).astype("f"), part) for part in ("scale", "shift")]
    more = {"num_groups": groups} if groups else {}
    node = onnx.helper.make_node(op, ["input", "scale", "shift"], ["output"], name="norm", epsilon=eps, **more)
    values = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, ["batch", 4, *"hwd"]) for end in ("input", "output")]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], parts)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("op, groups", [("InstanceNormalization", None), ("GroupNormalization", 2), ("GroupNormalization", 4)])
def test_groups_and_instances_of_others_are_read(op, groups, tmp_path):
    onnx.save(normalizing(op, 21, groups), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 3, 2)).astype("f")
    np.testing.assert_allclose(ours(from_onnx(tmp_path / "m.onnx"), x), run(tmp_path / "m.onnx", x), atol=1e-5)


def test_weights_of_whole_groups_are_refused(tmp_path):
    onnx.save(normalizing("GroupNormalization", 18, 4), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"node norm \(ai.onnx.GroupNormalization\) is of opset 18, where each group has one weight"):
        from_onnx(tmp_path / "m.onnx")
