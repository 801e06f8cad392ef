"""What PyTorch writes and computes: `torch/*.safetensors` with inputs and outputs, and `onnx/torch_*.onnx`.

Run with an interpreter that has torch, onnx and onnxscript (2.13, 1.23 and 0.7 made the files): python tests/data/make_from_torch.py
"""
import itertools
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import nn

FOLDER = Path(__file__).parent


def modules():
    "Name: (module, input), with weights and running averages that are not their first ones."
    x, image = torch.randn(6, 5), torch.randn(3, 2, 7, 6)
    return {
        "linear": (nn.Linear(5, 4), x), "linear_square": (nn.Linear(5, 5, bias=False), x),
        "batch_norm": (nn.BatchNorm1d(5, eps=1e-3), x), "layer_norm": (nn.LayerNorm(5), x), "rms_norm": (nn.RMSNorm(5, eps=1e-5), x),
        "embedding": (nn.Embedding(9, 4), torch.tensor([[1, 8], [0, 1], [3, 3]])),
        "conv": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0)), image), "prelu": (nn.PReLU(5), x),
        "dense": (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.GELU(), nn.LayerNorm(5), nn.Dropout(0.5), nn.Linear(5, 3)), x),
        "convolutional": (nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2, bias=False),
                                        nn.ReLU(), nn.AvgPool2d(2, stride=1), nn.Flatten(), nn.Linear(3, 2)), image),
    }


def normalizing():
    "With numbers of their own, so that those above stay what they were."
    image = torch.randn(3, 2, 7, 6)
    return {
        "group_norm": (nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.InstanceNorm2d(4, affine=True)), image),
    }


def unlike_the_start(module):
    for p in module.parameters():
        p.data += 0.3 * torch.randn_like(p)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer += torch.randn_like(buffer)
        elif name.endswith("running_var"):
            buffer.mul_(0.5 + torch.rand_like(buffer))


def without_notes(path):
    "Without what the exporter tells about the machine that it ran on."
    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output,
                 *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def main():
    torch.manual_seed(0)
    stored = {}
    for name, (module, x) in itertools.chain.from_iterable(made().items() for made in (modules, normalizing)):
        unlike_the_start(module)
        module.eval()
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, FOLDER / "torch" / f"{name}.safetensors")
        with torch.no_grad():
            stored[f"{name}/in"], stored[f"{name}/out"] = x.numpy(), module(x).numpy()
        if name in ("dense", "convolutional"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = FOLDER / "onnx" / f"torch_{name}"
                torch.onnx.export(module, (x,), f"{path}.onnx", dynamo=True, opset_version=20, external_data=False)
                torch.onnx.export(module, (x,), f"{path}_older.onnx", dynamo=False, opset_version=20)
            for file in (f"{path}.onnx", f"{path}_older.onnx"):
                without_notes(file)
    np.savez_compressed(FOLDER / "torch" / "answers.npz", **stored)


if __name__ == "__main__":
    main()
