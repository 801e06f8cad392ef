"""Write the frames of the "unfolding-viewer" figure (format: the head of _static/widgets/dn-unfold.js)."""

from __future__ import annotations

import base64
import json

import numpy as np


def pack_frames(frames, *, layers, steps, grid, labels, loss=None, accuracy=None, line=None) -> str:
    """JSON text of the frames.

    frames: (steps, layers, points, 2) array; of the points, the first ``grid[0] * grid[1]`` are the lattice, row
    after row, and the others are the data points, whose integer classes are `labels`.
    """
    frames = np.asarray(frames, dtype=np.float64)
    expected = (len(steps), len(layers), grid[0] * grid[1] + len(labels), 2)
    if frames.shape != expected:
        raise ValueError(f"pack_frames: frames have shape {frames.shape}; steps, layers, points, 2 = {expected}")
    scale = np.abs(frames).max(axis=(0, 2, 3))
    scale[scale == 0] = 1.0
    data = np.rint(frames / scale[:, None, None] * 32767).astype("<i2")
    out = {
        "layers": list(layers),
        "steps": [int(s) for s in steps],
        "grid": [int(g) for g in grid],
        "labels": [int(y) for y in labels],
        "scale": [float(s) for s in scale],
        "data": base64.b64encode(data.tobytes()).decode("ascii"),
    }
    for name, values in (("loss", loss), ("accuracy", accuracy), ("line", line)):
        if values is not None:
            out[name] = np.round(np.asarray(values, dtype=np.float64), 6).tolist()
    return json.dumps(out, separators=(",", ":"))


def xor_frames(seed: int = 0, epochs: int = 600, every: int = 40) -> str:
    """A 2-2-2-1 tanh network trained on noisy XOR by full-batch gradient descent, in numpy alone."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(c, 0.15, (12, 2)) for c in ((-1, -1), (1, 1), (-1, 1), (1, -1))])
    y = np.repeat([0, 0, 1, 1], 12)
    ticks = np.linspace(-1.5, 1.5, 13)
    lattice = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    sizes = (2, 2, 2, 1)
    Ws = [rng.normal(0, 1.0 / np.sqrt(a), (a, b)) for a, b in zip(sizes, sizes[1:], strict=False)]
    bs = [np.zeros(b) for b in sizes[1:]]

    def hidden(x):
        spaces = [x]
        for W, b in zip(Ws[:-1], bs[:-1], strict=True):
            spaces.append(np.tanh(spaces[-1] @ W + b))
        return spaces

    frames, steps, loss, accuracy, line = [], [], [], [], []
    for step in range(epochs + 1):
        spaces = hidden(X)
        z = (spaces[-1] @ Ws[-1] + bs[-1])[:, 0]
        if step % every == 0:
            frames.append(hidden(np.concatenate([lattice, X])))
            steps.append(step)
            loss.append(np.mean(np.logaddexp(0, z) - y * z))
            accuracy.append(np.mean((z > 0) == y))
            line.append([*Ws[-1][:, 0], bs[-1][0]])
        delta = ((1 / (1 + np.exp(-z)) - y) / len(y))[:, None]
        for i in reversed(range(len(Ws))):
            gW, gb = spaces[i].T @ delta, delta.sum(0)
            delta = (delta @ Ws[i].T) * (1 - spaces[i] ** 2) if i else None
            Ws[i] -= 1.0 * gW
            bs[i] -= 1.0 * gb
    return pack_frames(frames, layers=["input", "hidden 1", "hidden 2"], steps=steps, grid=(13, 13), labels=y,
                       loss=loss, accuracy=accuracy, line=line)  # fmt: skip
