"""Weights that PyTorch saved give PyTorch's outputs, and go back as they came; `data/make_from_torch.py` made files and answers."""


import numpy as np
import pytest
from conftest import ROOT

from deepnotes import convolution, layers
from deepnotes.autograd import Tensor, no_grad
from deepnotes.exchange import from_torch, to_torch
from deepnotes.training import checkpoints

DATA = ROOT / "tests" / "data" / "torch"
ANSWERS = np.load(DATA / "answers.npz")
MODULES = {
    "linear": lambda: layers.Linear(5, 4), "linear_square": lambda: layers.Linear(5, 5, bias=False),
    "batch_norm": lambda: layers.BatchNorm1d(5, eps=1e-3), "layer_norm": lambda: layers.LayerNorm(5),
    "rms_norm": lambda: layers.RMSNorm(5, eps=1e-5), "embedding": lambda: layers.Embedding(9, 4), "prelu": lambda: layers.PReLU(5),
    "conv": lambda: convolution.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)),
    "dense": lambda: layers.Sequential(layers.Linear(5, 5), layers.BatchNorm1d(5), layers.GELU(), layers.LayerNorm(5), layers.Dropout(0.5),
                                       layers.Linear(5, 3)),
    "convolutional": lambda: layers.Sequential(
        convolution.Conv2d(2, 4, 3, padding=1), layers.ReLU(), convolution.MaxPool2d(2), convolution.Conv2d(4, 3, 2, bias=False),
        layers.ReLU(), convolution.AvgPool2d(2, stride=1), layers.Flatten(), layers.Linear(3, 2)),
    "group_norm": lambda: layers.Sequential(convolution.Conv2d(2, 4, 3), layers.GroupNorm(2, 4), layers.ReLU(),
                                            layers.InstanceNorm2d(4, affine=True)),
}


@pytest.mark.parametrize("name", MODULES)
def test_the_outputs_are_those_of_pytorch(name, tmp_path):
    model = MODULES[name]()
    from_torch(model, DATA / f"{name}.safetensors")
    model.eval()
    with no_grad():
        found = model(Tensor(ANSWERS[f"{name}/in"])).numpy()
    np.testing.assert_allclose(found, ANSWERS[f"{name}/out"], rtol=1e-5, atol=2e-6)
    checkpoints.save_weights(to_torch(model), tmp_path / "back.safetensors")
    before, after = (checkpoints.load_weights(p) for p in (DATA / f"{name}.safetensors", tmp_path / "back.safetensors"))
    assert set(before) == set(after)
    for key in before:
        np.testing.assert_array_equal(before[key], after[key])


def test_every_file_has_its_module():
    assert {p.stem for p in DATA.glob("*.safetensors")} == set(MODULES)
