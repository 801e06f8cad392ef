"""Writes losses.npz, what PyTorch's losses and their gradients are: python tests/data/make_losses.py (needs torch; made with 2.13.0)."""
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
X, Y = 1.5 * torch.randn(7, 4), torch.randn(7, 4)
SIGNS, LABELS = torch.where(torch.rand(7, 4) < 0.5, -1.0, 1.0), torch.randint(0, 4, (7,))
WEIGHT = torch.tensor([0.5, 1.0, 0.0, 2.0])
CASES = {
    "smooth_l1_loss": (F.smooth_l1_loss, Y, {}), "smooth_l1_loss/wide": (F.smooth_l1_loss, Y, {"beta": 1.7}),
    "smooth_l1_loss/zero": (F.smooth_l1_loss, Y, {"beta": 0.0}),
    "hinge_embedding_loss": (F.hinge_embedding_loss, SIGNS, {}),
    "hinge_embedding_loss/wide": (F.hinge_embedding_loss, SIGNS, {"margin": 2.5}),
    "multi_margin_loss": (F.multi_margin_loss, LABELS, {}),
    "multi_margin_loss/square": (F.multi_margin_loss, LABELS, {"p": 2, "margin": 0.5}),
    "multi_margin_loss/weighted": (F.multi_margin_loss, LABELS, {"weight": WEIGHT}),
}

found = {"x": X.numpy(), "y": Y.numpy(), "signs": SIGNS.numpy(), "labels": LABELS.numpy(), "weight": WEIGHT.numpy()}
for name, (loss, target, settings) in CASES.items():
    for reduction in ("mean", "sum", "none"):
        x = X.clone().requires_grad_()
        value = loss(x, target, reduction=reduction, **settings)
        value.sum().backward()
        found[f"{name}/{reduction}"], found[f"{name}/{reduction}/slope"] = value.detach().numpy(), x.grad.numpy()
np.savez_compressed(Path(__file__).with_name("losses.npz"), **found)
