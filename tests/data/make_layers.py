"""Writes layers.npz, what PyTorch's layers give: python tests/data/make_layers.py (needs torch; made with 2.13.0)."""
from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
found = {}


def run(name, module, x, steps=2):
    """Two training steps' outputs and gradients, the state after them, then the output in evaluation mode."""
    for p in module.parameters():
        nn.init.normal_(p)
    found.update({f"{name}/start/{k}": v.numpy().copy() for k, v in module.state_dict().items()})
    found[f"{name}/x"] = x.numpy().copy()
    for step in range(steps):
        inputs = (x + step).requires_grad_() if x.is_floating_point() else x
        module.zero_grad()
        y = module(inputs)
        weights = torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)
        (y * weights).sum().backward()
        found[f"{name}/y{step}"] = y.detach().numpy().copy()
        if inputs.grad is not None:
            found[f"{name}/dx{step}"] = inputs.grad.numpy().copy()
        found.update({f"{name}/d{step}/{k}": p.grad.numpy().copy() for k, p in module.named_parameters()})
    found.update({f"{name}/end/{k}": v.numpy().copy() for k, v in module.state_dict().items()})
    module.eval()
    with torch.no_grad():
        found[f"{name}/eval"] = module(x.detach()).numpy().copy()


table, sequence = torch.randn(6, 4) * 3 + 1, torch.randn(3, 4, 5)
run("batch", nn.BatchNorm1d(4), table)
run("batch_sequence", nn.BatchNorm1d(4), sequence)
run("batch_average", nn.BatchNorm1d(4, momentum=None, eps=1e-3), table)
run("batch_plain", nn.BatchNorm1d(4, affine=False), table)
run("batch_untracked", nn.BatchNorm1d(4, track_running_stats=False), table)
run("layer", nn.LayerNorm(4), table)
run("layer_two_axes", nn.LayerNorm((4, 5), eps=1e-3), sequence)
run("layer_no_bias", nn.LayerNorm(5, bias=False), sequence)
run("rms", nn.RMSNorm(4), table)
run("rms_two_axes", nn.RMSNorm((4, 5), eps=1e-2), sequence)
run("prelu", nn.PReLU(4), table)
run("embedding", nn.Embedding(5, 3, padding_idx=1), torch.tensor([[0, 1, 4], [4, 4, 1]]))
image = torch.randn(2, 4, 3, 5)
run("group", nn.GroupNorm(2, 4), image)
run("group_of_rows", nn.GroupNorm(2, 4, eps=1e-3), table)
run("group_plain", nn.GroupNorm(4, 4, affine=False), sequence)
run("instance_sequence", nn.InstanceNorm1d(4), sequence)
run("instance_learned", nn.InstanceNorm1d(4, eps=1e-3, affine=True), sequence)
run("instance_image", nn.InstanceNorm2d(4, affine=True), image)
np.savez_compressed(Path(__file__).with_name("layers.npz"), **found)
