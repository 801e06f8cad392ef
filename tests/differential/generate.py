"""Small training programs drawn from a seed, as text that runs by itself; and the smallest one that still fails.

A program is a choice for each part of TEXT. The first option of a part is its simplest, which shrinking tries.
"""

import numpy as np

TEXT = '''\
import collections
import numpy as np
import deepnotes as dn
from deepnotes import layers, optimizers, outputs

class Box:
    pass

class Own(layers.Module):
    def __init__(self):
        self.count, self.last = 0, None

    def forward(self, h):
        {forward}
        return h

def program():
    rng, draws = np.random.default_rng({seed}), np.random.default_rng(1)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    own, box, log, seen, notes, queue, ticks = Own(), Box(), [], set(), {{}}, collections.deque(), iter(range(1, 99))
    box.count, box.name, n = 0, "", 0
    w = dn.layers.Parameter(normal(4, 4))
    w.data = {layout}
    model = layers.Sequential({model})
    optimizer, targets = optimizers.{optimizer}, {{k: dn.Tensor(normal(k, 3)) for k in (4, 7, 8)}}
    {hook}

    def step(x, y):
        nonlocal n
        h = x if isinstance(x, dn.Tensor) else dn.Tensor(x)
        {change}
        out = model(own(h @ w))
        loss = {loss}
        {branch}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        {effect}
        return {returned}

    batches = []
    for rows in {rows}:
        x, y = normal({width}, rows).T, rng.integers(0, 3, rows)
        x = {given}
        batches.append((x, y))
    {wrong}

    def state():
        things = [w, *model.parameters()]
        arrays = [t.data for t in things] + [v for v in optimizer.state_dict().values()]
        return [arrays, model.state_dict(), box, own, log, seen, notes, queue, n, next(ticks), draws.random()]

    return step, batches, state
'''

PARTS = {
    "forward": ["pass", "self.count += 1", "self.count += 1; h = h * (1.0 / self.count)", "self.last = h", "h = h * 0.5",
                "self.__dict__.setdefault('all', []).append(h.shape)", "self.name = 'x' * h.shape[0]",
                "parts = []; parts.append(h); h = parts[0]"],
    "layout": ["normal(4, 4)", "np.asfortranarray(normal(4, 4))", "normal(4, 4)[::-1]", "normal(4, 8)[:, ::2]", "normal(4, 4).T",
               "normal(4, 4)[:, ::-1]"],
    "model": ["layers.Linear(4, 3, rng=0)", "layers.ReLU(), layers.Linear(4, 3, rng=0)",
              "layers.Dropout(0.5, rng=0), layers.Linear(4, 3, rng=0)",
              "layers.LayerNorm(4), layers.Linear(4, 3, rng=0)", "layers.BatchNorm1d(4), layers.Linear(4, 3, rng=0)"],
    "optimizer": ["SGD([w, *model.parameters()], lr=0.1)", "SGD([w, *model.parameters()], lr=0.1, momentum=0.9)",
                  "Adam([w, *model.parameters()], lr=0.01)"],
    "hook": ["pass", "own.register_forward_hook(lambda module, args, out: log.append(out.shape))",
             "own.register_forward_hook(lambda module, args, out: out * 0.5)", "w.register_hook(lambda g: queue.append(g.shape))",
             "w.register_hook(lambda g: g * 0.5)"],
    "change": ["pass", "h = h[:, ::-1]", "h = h[::-1]", "h = h * 0.5", "h = h + h[:, :1]", "h = h.T.T", "h = h[:, [3, 2, 1, 0]]",
               "h = dn.autograd.concatenate([h[:, 2:], h[:, :2]], 1)", "h = h[::-1, ::-1] * h", "h = h.reshape(4, -1).T"],
    "loss": ["outputs.cross_entropy(out, y)", "(out * out).mean()", "outputs.mse_loss(out, targets[len(y)])",
             "outputs.cross_entropy(out[:, ::-1], y)"],
    "branch": ["pass", "loss = loss * 2.0 if loss.item() > 1.2 else loss", "loss = loss * 2.0 if box.count % 2 else loss",
               "loss = loss * (2.0 if draws.random() < 0.5 else 1.0)", "loss = loss * float(next(ticks))",
               "loss = loss * (1.0 + len(log))", "loss = loss * 2.0 if own.training else loss",
               "loss = loss * 2.0 if x.shape[0] > 4 else loss", "loss = loss * (2.0 if np.asarray(h.data)[0, 0] > 0 else 1.0)"],
    "effect": ["pass", "log.append(loss)", "log.append(loss.data.copy())", "log.append(float(np.asarray(loss.data)))",
               "log.append(loss.item())",
               "seen.add(len(seen))", "queue.append(loss)", "box.last = loss", "box.count += 1", "box.name += 'a'", "n += 1",
               "notes['n'] = notes.get('n', 0) + 1", "notes.setdefault('shapes', []).append(x.shape)", "next(ticks)", "draws.random()",
               "log.extend([loss.shape])", "setattr(box, 'last', loss)", "vars(box).update(last=loss)",
               "w.data *= 0.99", "model[-1].bias.data[...] = 0.0", "log[:] = [1]", "log.clear(); log.append(x.shape[0])",
               "box.flag = True", "sorted([3, 1, 2])"],
    "returned": ["loss", "loss, out", "(out * 2.0).sum()"],
    "rows": ["[4] * 5", "[8] * 6", "[8, 8, 8, 4, 8, 4, 4]"],
    "width": ["4"],
    "given": ["np.ascontiguousarray(x)", "x", "dn.Tensor(np.ascontiguousarray(x))", "np.ascontiguousarray(x)[::-1]",
              "np.repeat(x, 2, 1)[:, ::2]"],
    "wrong": ["pass", "batches[3][1][1] = 3", "batches[4][1][0] = -7", "batches.insert(3, (batches[0][0][:, :3], batches[0][1]))",
              "batches.insert(4, (batches[0][0], batches[0][1][:-1]))", "batches[2][0][0, 0] = np.nan"],
}
# With fuse=True each new chain of operations is a loop to compile: these parts keep to few.
PLAIN_WHERE_FUSED = ("change", "layout", "given")


def draw(seed, fused=False):
    "A program: for each part the number of its option."
    rng = np.random.default_rng([seed, 77])
    chosen = {}
    for name, options in PARTS.items():
        simple = rng.random() < (0.75 if name in ("branch", "wrong", "hook", "forward") else 0.4)
        chosen[name] = 0 if simple else int(rng.integers(len(options)))
    if fused:
        chosen |= dict.fromkeys(PLAIN_WHERE_FUSED, 0)
        chosen["model"], chosen["optimizer"] = [(0, 0), (1, 2), (2, 1), (3, 0)][int(rng.integers(4))]
        chosen["loss"] = min(chosen["loss"], 1)
        chosen["forward"] = chosen["forward"] if chosen["forward"] != 4 else 0
    return chosen


def text(chosen, seed):
    "The program as Python."
    return TEXT.format(seed=seed, **{name: PARTS[name][k] for name, k in chosen.items()})


def shrunk(chosen, fails):
    "The simplest choices near these that still fail: one part after the other is made the simplest that does."
    best, again = dict(chosen), True
    while again:
        again = False
        for name in best:
            for k in range(best[name]):
                if fails({**best, name: k}):
                    best, again = {**best, name: k}, True
                    break
    return best
