"""Reference values for the book's interactive figures, from mpmath, scipy and numpy: never from the figures' own code.

``python tests/book/widgets/reference.py`` writes reference.js, which tests/book/widgets/checks.js compares with what the scripts
compute (in node through check.mjs, and in any browser through demo.html). tests/book/test_widgets.py recomputes it all.
"""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import scipy.integrate
import scipy.special

HERE = Path(__file__).parent
mp.mp.dps = 40

# --- units: f written for mpmath, the derivative by mpmath's own differentiation ---------------------------------

SELU_ALPHA, SELU_SCALE = mp.mpf("1.6732632423543772848170429916717"), mp.mpf("1.0507009873554804934193349852946")


def _sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def _clip(x, lo, hi):
    return min(max(x, mp.mpf(lo)), mp.mpf(hi))


UNITS = {
    "relu": lambda x, a: max(x, mp.mpf(0)),
    "leaky_relu": lambda x, a: x if x > 0 else a * x,
    "elu": lambda x, a: x if x > 0 else a * mp.expm1(x),
    "selu": lambda x, a: SELU_SCALE * (x if x > 0 else SELU_ALPHA * mp.expm1(x)),
    "gelu": lambda x, a: x * mp.ncdf(x),
    "silu": lambda x, b: x * _sigmoid(b * x),
    "mish": lambda x, a: x * mp.tanh(mp.log1p(mp.exp(x))),
    "softplus": lambda x, b: mp.log1p(mp.exp(b * x)) / b,
    "tanh": lambda x, k: mp.tanh(k * x),
    "sigmoid": lambda x, k: _sigmoid(k * x),
    "softsign": lambda x, a: x / (1 + abs(x)),
    "relu6": lambda x, a: _clip(x, 0, 6),
    "hardsigmoid": lambda x, a: _clip(x / 6 + mp.mpf(1) / 2, 0, 1),
    "hardswish": lambda x, a: x * _clip(x / 6 + mp.mpf(1) / 2, 0, 1),
    "linear": lambda x, a: x,
}
PARAMETERS = {"leaky_relu": [0.01, 0.3], "elu": [1, 0.5], "silu": [1, 2.5], "softplus": [1, 3], "tanh": [1, 2],
              "sigmoid": [1, 0.5]}  # fmt: skip
KINKS = {"relu": [0], "leaky_relu": [0], "elu": [0], "selu": [0], "relu6": [0, 6], "hardsigmoid": [-3, 3],
         "hardswish": [-3, 3]}  # fmt: skip
POINTS = [-60.0, -20.5, -7.25, -4.0, -2.5, -1.0, -0.3, -1e-3, 1e-3, 0.25, 0.9, 2.0, 3.5, 5.0, 9.0, 33.0]


def _units():
    out = []
    for name, f in UNITS.items():
        for a in PARAMETERS.get(name, [0]):
            for x in POINTS:
                d = mp.diff(lambda t, f=f, a=a: f(t, mp.mpf(a)), mp.mpf(x), h=mp.mpf(10) ** -12)
                out.append([name, a, x, float(f(mp.mpf(x), mp.mpf(a))), float(d)])
    return out


# --- mean-field moments by adaptive quadrature of numpy forms ----------------------------------------------------

NP = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (scipy.special.expit, lambda x: scipy.special.expit(x) * scipy.special.expit(-x)),
    "selu": (
        lambda x: float(SELU_SCALE) * np.where(x > 0, x, float(SELU_ALPHA) * np.expm1(np.minimum(x, 0))),
        lambda x: float(SELU_SCALE) * np.where(x > 0, 1.0, float(SELU_ALPHA) * np.exp(np.minimum(x, 0))),
    ),
    "gelu": (
        lambda x: x * scipy.special.ndtr(x),
        lambda x: scipy.special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
    ),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0)),
}


def _mean(g, q, kinks):
    s = np.sqrt(q)
    edges = sorted({-10.0, 10.0, *(float(e) for e in (0, -1 / s, 1 / s, *(k / s for k in kinks)) if abs(e) < 10)})

    def integrand(z):
        return g(s * z) ** 2 * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)

    return sum(
        scipy.integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-12, limit=400)[0]
        for a, b in zip(edges, edges[1:], strict=False)
    )


def _moments():
    return [
        [name, q, _mean(f, q, KINKS.get(name, [])), _mean(d, q, KINKS.get(name, []))]
        for name, (f, d) in NP.items()
        for q in (0.1, 1.0, 4.0, 30.0)
    ]


def _mean_field():
    out = []
    for name, s2, depth in (("relu", 2.0, 10), ("tanh", 1.0, 10), ("sigmoid", 2.0, 6), ("selu", 1.0, 8)):
        f, d = NP[name]
        q, chi = [1.0], []
        for _ in range(depth):
            q.append(s2 * _mean(f, q[-1], KINKS.get(name, [])))
            chi.append(s2 * _mean(d, q[-2], KINKS.get(name, [])))
        grad = [float(np.prod(chi[k:])) for k in range(depth + 1)]
        out.append([name, s2, depth, q, grad])
    return out


# --- outputs and losses -----------------------------------------------------------------------------------------

ROWS = [[2.0, 1.0, 0.0, -1.0], [0.0, 0.0], [1000.0, 1001.0, 999.0], [-1e4, -1e4 + 2], [90.0, 80.0, 70.0], [-6.0, 6.0]]


def _pairs():
    out = []
    forms = {
        "sigmoid-log": lambda z, y: -(y * mp.log(_sigmoid(z)) + (1 - y) * mp.log(1 - _sigmoid(z))),
        "sigmoid-squared": lambda z, y: (_sigmoid(z) - y) ** 2 / 2,
        "linear-squared": lambda z, y: (z - y) ** 2 / 2,
        "clipped-squared": lambda z, y: (_clip(z, 0, 1) - y) ** 2 / 2,
        "linear-log": lambda z, y: -(y * mp.log(z) + (1 - y) * mp.log(1 - z)),
    }
    for name, f in forms.items():
        for y in (0, 1):
            for z in (-30.0, -8.0, -4.0, -0.5, 0.25, 0.75, 1.5, 4.0, 8.0, 30.0):
                if name == "linear-log" and not 0 < z < 1:
                    continue
                loss, d = f(mp.mpf(z), mp.mpf(y)), mp.diff(lambda t, f=f, y=y: f(t, mp.mpf(y)), z, h=mp.mpf(10) ** -12)
                out.append([name, y, z, float(loss), float(d)])
    return out


# --- random numbers, layers, graphs, optimizers, least squares --------------------------------------------------


class Rng:
    """mulberry32 with Box and Muller's transform, as dnMath.rng has it."""

    def __init__(self, seed):
        self.state, self.spare = seed & 0xFFFFFFFF, None

    def uniform(self):
        self.state = (self.state + 0x6D2B79F5) & 0xFFFFFFFF
        t = self.state
        t = ((t ^ (t >> 15)) * (t | 1)) & 0xFFFFFFFF
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        return ((t ^ (t >> 14)) & 0xFFFFFFFF) / 2**32

    def normal(self):
        if self.spare is not None:
            v, self.spare = self.spare, None
            return v
        r, a = np.sqrt(-2 * np.log(1 - self.uniform())), 2 * np.pi * self.uniform()
        self.spare = r * np.sin(a)
        return r * np.cos(a)

    def normals(self, *shape):
        return np.array([self.normal() for _ in range(int(np.prod(shape)))]).reshape(shape)


def _layers(n=5, m=3, depth=4, scale=1.3, seed=7):
    rng = Rng(seed)
    x = x0 = rng.normals(m, n)
    act, kept = [float(np.sqrt(np.mean(x0**2)))], []
    for _ in range(depth):
        W = rng.normals(n, n) * scale / np.sqrt(n)
        h = x @ W.T
        x = np.tanh(h)
        kept.append((W, h))
        act.append(float(np.sqrt(np.mean(x**2))))
    g = rng.normals(m, n)
    g0, grad = np.sqrt(np.mean(g**2)), [1.0]
    for W, h in reversed(kept):
        g = (g * (1 - np.tanh(h) ** 2)) @ W
        grad.insert(0, float(np.sqrt(np.mean(g**2)) / g0))
    options = {"unit": "tanh", "param": 1, "width": n, "batch": m, "depth": depth, "scale": scale, "seed": seed,
               "weights": "normal"}  # fmt: skip
    return {"options": options, "act": act, "grad": grad}


def _graphs():
    def by_mpmath(f, at):
        return {k: float(mp.diff(lambda t, k=k: f(**{**at, k: t}), at[k])) for k in at}

    def diamond(w, x):
        return (w * x + x) ** 2

    def mlp(x, u, v, y):
        return (v * mp.tanh(u * x) + x - y) ** 2

    def all_ops(a, b):
        return mp.log(mp.exp(a / b) + _sigmoid(-a)) - max(b, mp.mpf(0)) * a

    d, m, o = {"w": 3, "x": 2}, {"x": 1.5, "u": -1, "v": 2, "y": 1}, {"a": 0.7, "b": 1.9}
    return [
        {
            "nodes": [{"id": k, "value": v} for k, v in d.items()]
            + [{"id": "a", "op": "*", "inputs": ["w", "x"]}, {"id": "b", "op": "+", "inputs": ["a", "x"]}]
            + [{"id": "L", "op": "square", "inputs": ["b"]}],
            "value": float(diamond(**d)),
            "grad": by_mpmath(diamond, d),
        },
        {
            "nodes": [{"id": k, "value": v} for k, v in m.items()]
            + [{"id": "p", "op": "*", "inputs": ["u", "x"]}, {"id": "h", "op": "tanh", "inputs": ["p"]}]
            + [{"id": "q", "op": "*", "inputs": ["v", "h"]}, {"id": "r", "op": "+", "inputs": ["q", "x"]}]
            + [{"id": "e", "op": "-", "inputs": ["r", "y"]}, {"id": "L", "op": "*", "inputs": ["e", "e"]}],
            "value": float(mlp(**m)),
            "grad": by_mpmath(mlp, m),
        },
        {
            "nodes": [{"id": k, "value": v} for k, v in o.items()]
            + [{"id": "c", "op": "/", "inputs": ["a", "b"]}, {"id": "d", "op": "exp", "inputs": ["c"]}]
            + [{"id": "e", "op": "neg", "inputs": ["a"]}, {"id": "f", "op": "sigmoid", "inputs": ["e"]}]
            + [{"id": "g", "op": "+", "inputs": ["d", "f"]}, {"id": "h", "op": "log", "inputs": ["g"]}]
            + [{"id": "i", "op": "relu", "inputs": ["b"]}, {"id": "j", "op": "*", "inputs": ["i", "a"]}]
            + [{"id": "L", "op": "-", "inputs": ["h", "j"]}],
            "value": float(all_ops(**{k: mp.mpf(v) for k, v in o.items()})),
            "grad": by_mpmath(all_ops, {k: mp.mpf(v) for k, v in o.items()}),
        },
    ]


SURFACES = {
    "quadratic": lambda x, y: (x * x + 25 * y * y) / 2,
    "rosenbrock": lambda x, y: (1 - x) ** 2 + 100 * (y - x * x) ** 2,
    "beale": lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
    "saddle": lambda x, y: x * x - y * y + y**4 / 4,
}


def _surfaces():
    out = []
    for name, f in SURFACES.items():
        for x, y in ((0.3, -0.7), (-1.5, 2.0), (2.2, 0.4)):
            g = [float(mp.diff(f, (mp.mpf(x), mp.mpf(y)), n)) for n in ((1, 0), (0, 1))]
            out.append([name, x, y, float(f(x, y)), *g])
    return out


def _paths(steps=25):
    """PyTorch's update rules on the quadratic, written in numpy (its documentation's pseudocode, default arguments)."""
    start, curvature, out = np.array([-4.0, 2.0]), np.array([1.0, 25.0]), {}
    for name in ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"):
        w, m, v, lr = start.copy(), np.zeros(2), np.zeros(2), 0.01
        path = [w.tolist()]
        for t in range(1, steps + 1):
            g = curvature * w
            if name == "sgd":
                step = g
            elif name in ("momentum", "nesterov"):
                m = g if t == 1 else 0.9 * m + g
                step = g + 0.9 * m if name == "nesterov" else m
            elif name == "rmsprop":
                v = 0.99 * v + 0.01 * g**2
                step = g / (np.sqrt(v) + 1e-8)
            else:
                if name == "adamw":
                    w = w - lr * 0.01 * w
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            w = w - lr * step
            path.append(w.tolist())
        out[name] = {"lr": lr, "path": path}
    return out


def _fits():
    out, rng = [], np.random.default_rng(0)
    for degree, points, decay in ((3, 20, 0.0), (9, 20, 0.0), (5, 12, 1e-2), (12, 8, 0.0), (12, 8, 1e-3), (0, 5, 0.0)):
        x = np.round(rng.uniform(-1, 1, points), 6)
        y = np.round(np.sin(np.pi * x) + 0.5 * x + 0.3 * rng.normal(size=points), 6)
        X = np.polynomial.legendre.legvander(x, degree) * np.sqrt(2 * np.arange(degree + 1) + 1)
        A = np.vstack([X, np.sqrt(points * decay) * np.eye(degree + 1)]) if decay else X
        b = np.concatenate([y, np.zeros(degree + 1)]) if decay else y
        w = np.linalg.lstsq(A, b, rcond=1e-12)[0]
        err = np.mean((X @ w - y) ** 2)
        out.append(
            {"x": x.tolist(), "y": y.tolist(), "degree": degree, "decay": decay, "w": w.tolist(), "mse": float(err)}
        )
    return out


def _frames():
    import frames as packer

    rng = np.random.default_rng(3)
    values = rng.normal(size=(2, 3, 4 + 3, 2)) * np.array([1.0, 0.01, 50.0])[None, :, None, None]
    text = packer.pack_frames(values, layers=["input", "a", "b"], steps=[0, 5], grid=(2, 2), labels=[0, 1, 1])
    return {"packed": json.loads(text), "values": np.round(values, 9).tolist()}


def _laws() -> dict:
    """Cosines by the integral E[relu(u) relu(v)] 2, a roof, a captured step, a ring."""

    def behind(c):  # both inputs standard normal with correlation c; He's factor 2 makes their size 1 again
        if c >= 1 - 1e-12:
            return 1.0
        angle = float(np.arccos(c))
        inner = scipy.integrate.quad(lambda t: max(0.0, np.cos(t)) * max(0.0, np.cos(t - angle)), -np.pi, np.pi,
                                     points=[-np.pi / 2, np.pi / 2, angle - np.pi / 2])[0]
        return 2 * inner * 2 / (2 * np.pi)  # E[r²] = 2 of a plane's normal point

    stacked, around = [0.1], [0.1]
    for _ in range(6):
        stacked.append(behind(stacked[-1]))
        around.append((around[-1] + 0.25 * behind(around[-1])) / 1.25)
    ring = [[p, 0.02 / p + 2 * (p - 1) * (2e-5 + 4e6 / p / 1.25e9) * (p > 1)] for p in (1, 2, 7, 64)]
    return {
        "relu": [[c, behind(c)] for c in (-0.9, -0.3, 0.0, 0.5, 0.99)],
        "stacked": stacked,
        "around": around,
        "roof": [[i, b, p, float(np.minimum(p, b * i))] for i, b, p in ((0.1, 20, 100), (5, 20, 100), (8, 20, 100))],
        "step": [[n, k, c, n * c + n * k * 1e-3, n * 0.05 + n * k * 1e-3] for n, k, c in ((60, 1000, 5), (5, 10, 20))],
        "ring": ring,
    }


def reference() -> dict:
    """All reference values, ready for JSON."""
    xs = np.concatenate([np.linspace(-7, 7, 57), [1e-8, -1e-8, 2.5, 26.0]])
    rng = Rng(42)
    return {
        "erf": [[x, float(scipy.special.erf(x)), float(scipy.special.erfc(x))] for x in xs.tolist()],
        "units": _units(),
        "moments": _moments(),
        "meanField": _mean_field(),
        "softmax": [[z, scipy.special.softmax(z).tolist(), float(scipy.special.logsumexp(z))] for z in ROWS],
        "pairs": _pairs(),
        "uniform": [rng.uniform() for _ in range(8)],
        "normal": Rng(42).normals(8).tolist(),
        "layers": _layers(),
        "graphs": _graphs(),
        "surfaces": _surfaces(),
        "paths": _paths(),
        "fits": _fits(),
        "frames": _frames(),
        "laws": _laws(),
    }


PREFIX = "/* Written by reference.py. */\nwindow.dnReference = "

if __name__ == "__main__":
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in reference().items())
    (HERE / "reference.js").write_text(PREFIX + "{\n" + lines + "\n};\n")
