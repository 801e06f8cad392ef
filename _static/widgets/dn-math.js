/* Deep Notes, interactive figures: the numbers behind them. Pure functions, no page needed.
   Every function here is compared with scipy and numpy in tests/book/test_widgets.py. */
(function (root) {
  "use strict";
  const { exp, expm1, log, log1p, sqrt, abs, max, min, tanh, PI } = Math;

  /** erf to about 1e-15: Kummer's series in the middle, a continued fraction for erfc in the tails. */
  function erf(x) {
    const a = abs(x);
    if (a !== a) return NaN;
    if (a > 6) return x > 0 ? 1 : -1;
    if (a < 2.5) {
      let term = a,
        sum = a;
      for (let n = 1; n < 60 && term > 1e-18 * sum; n++) sum += term *= (2 * a * a) / (2 * n + 1);
      return (x < 0 ? -1 : 1) * (2 / sqrt(PI)) * exp(-a * a) * sum;
    }
    return x < 0 ? erfc(a) - 1 : 1 - erfc(a);
  }
  function erfc(x) {
    // the tail itself, so that it is not lost in 1 - erf(x)
    if (x < 1.5) return 1 - erf(x);
    let t = x;
    for (let k = 100; k > 0; k--) t = x + k / 2 / t;
    return exp(-x * x) / sqrt(PI) / t;
  }
  const phi = (x) => exp((-x * x) / 2) / sqrt(2 * PI);
  const Phi = (x) => erfc(-x / Math.SQRT2) / 2;
  const sigmoid = (x) => {
    const e = exp(-abs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
  };
  const softplus = (x) => max(x, 0) + log1p(exp(-abs(x)));
  const clip = (x, lo, hi) => min(max(x, lo), hi);
  const SA = 1.6732632423543772,
    SL = 1.0507009873554805; // SELU's alpha and scale (Klambauer et al., 2017)

  /* Units: f and its derivative d; `p` = [name, least, most, default] of the one parameter that can be moved;
     `kinks`: where d jumps, apart from 0. The derivative of ReLU at 0 is 0, as in PyTorch. */
  const UNITS = {
    relu: { label: "ReLU", f: (x) => max(x, 0), d: (x) => +(x > 0) },
    leaky_relu: {
      label: "leaky ReLU",
      p: ["slope", 0, 1, 0.01],
      f: (x, a) => (x > 0 ? x : a * x),
      d: (x, a) => (x > 0 ? 1 : a),
    },
    elu: {
      label: "ELU",
      p: ["α", 0, 3, 1],
      f: (x, a) => (x > 0 ? x : a * expm1(x)),
      d: (x, a) => (x > 0 ? 1 : a * exp(x)),
    },
    selu: { label: "SELU", f: (x) => SL * (x > 0 ? x : SA * expm1(x)), d: (x) => SL * (x > 0 ? 1 : SA * exp(x)) },
    gelu: { label: "GELU", f: (x) => (x < -40 ? 0 : x * Phi(x)), d: (x) => Phi(x) + (abs(x) > 40 ? 0 : x * phi(x)) },
    silu: {
      label: "SiLU (Swish)",
      p: ["β", 0, 5, 1],
      f: (x, b) => x * sigmoid(b * x),
      d: (x, b) => {
        const s = sigmoid(b * x);
        return s + b * x * s * sigmoid(-b * x);
      },
    },
    mish: {
      label: "Mish",
      f: (x) => x * tanh(softplus(x)),
      d: (x) => {
        const t = tanh(softplus(x));
        return t + x * (1 - t * t) * sigmoid(x);
      },
    },
    softplus: { label: "softplus", p: ["β", 0.2, 5, 1], f: (x, b) => softplus(b * x) / b, d: (x, b) => sigmoid(b * x) },
    tanh: {
      label: "tanh",
      p: ["k", 0.1, 5, 1],
      f: (x, k) => tanh(k * x),
      d: (x, k) => {
        const t = tanh(k * x);
        return k * (1 - t * t);
      },
    },
    sigmoid: {
      label: "sigmoid",
      p: ["k", 0.1, 5, 1],
      f: (x, k) => sigmoid(k * x),
      d: (x, k) => k * sigmoid(k * x) * sigmoid(-k * x),
    },
    softsign: { label: "softsign", f: (x) => x / (1 + abs(x)), d: (x) => 1 / (1 + abs(x)) ** 2 },
    relu6: { label: "ReLU6", kinks: [6], f: (x) => clip(x, 0, 6), d: (x) => +(x > 0 && x < 6) },
    hardsigmoid: {
      label: "hard sigmoid",
      kinks: [-3, 3],
      f: (x) => clip(x / 6 + 0.5, 0, 1),
      d: (x) => (abs(x) < 3 ? 1 / 6 : 0),
    },
    hardswish: {
      label: "hard swish",
      kinks: [-3, 3],
      f: (x) => x * clip(x / 6 + 0.5, 0, 1),
      d: (x) => (x <= -3 ? 0 : x < 3 ? x / 3 + 0.5 : 1),
    },
    linear: { label: "linear", f: (x) => x, d: () => 1 },
  };

  /* Gauss-Legendre, six points a panel; panels crowd towards 0, where saturating units change fastest. */
  const GX = [0.2386191860831969, 0.6612093864662645, 0.932469514203152];
  const GW = [0.467913934572691, 0.3607615730481386, 0.17132449237917036];
  /** E[g(s z)] for z ~ N(0, 1); `kinks` are the places (in s z) where g is not smooth. */
  function gaussMean(g, s, kinks) {
    const K = 24,
      edges = [];
    for (let k = -K; k <= K; k++) edges.push(10 * (k / K) ** 3);
    for (const k of kinks || []) if (s > 0 && abs(k / s) < 10) edges.push(k / s);
    edges.sort((a, b) => a - b);
    let sum = 0;
    for (let i = 1; i < edges.length; i++) {
      const c = (edges[i] + edges[i - 1]) / 2,
        h = (edges[i] - edges[i - 1]) / 2;
      if (h > 0)
        for (let j = 0; j < 3; j++)
          sum +=
            h * GW[j] * (g(s * (c + h * GX[j])) * phi(c + h * GX[j]) + g(s * (c - h * GX[j])) * phi(c - h * GX[j]));
    }
    return sum;
  }
  /** Mean squares of unit and derivative over pre-activations of variance q. */
  const moments = (u, a, q) => ({
    f2: gaussMean((x) => u.f(x, a) ** 2, sqrt(q), u.kinks),
    d2: gaussMean((x) => u.d(x, a) ** 2, sqrt(q), u.kinks),
  });
  /** Infinitely wide random layers, weights N(0, s2 / fan_in), no biases. q[l]: mean square of the pre-activations
      of layer l, from q[0] = q0; grad[l]: mean square of a gradient that is 1 at the last layer. */
  function meanField(u, a, s2, depth, q0 = 1) {
    const q = [q0],
      chi = [],
      grad = Array(depth + 1).fill(1);
    for (let l = 0; l < depth; l++) {
      const m = moments(u, a, q[l]);
      q.push(s2 * m.f2);
      chi.push(s2 * m.d2);
    }
    for (let l = depth - 1; l >= 0; l--) grad[l] = grad[l + 1] * chi[l];
    return { q, chi, grad };
  }

  function logsumexp(z) {
    const m = max(...z);
    return m === -Infinity ? m : m + log(z.reduce((s, v) => s + exp(v - m), 0));
  }
  function softmax(z) {
    const m = max(...z),
      e = z.map((v) => exp(v - m)),
      s = e.reduce((a, b) => a + b, 0);
    return e.map((v) => v / s);
  }

  /* Output unit with loss, as functions of the logit z and the target y, 0 or 1: [loss, d loss / d z]. */
  const PAIRS = {
    "sigmoid-log": {
      label: "sigmoid + log loss",
      f: (z, y) => (y === 1 ? [softplus(-z), -sigmoid(-z)] : [softplus(z), sigmoid(z)]),
    },
    "sigmoid-squared": {
      label: "sigmoid + squared error",
      f: (z, y) => {
        const e = y === 1 ? -sigmoid(-z) : sigmoid(z) - y;
        return [(e * e) / 2, e * sigmoid(z) * sigmoid(-z)];
      },
    },
    "linear-squared": { label: "linear + squared error", f: (z, y) => [(z - y) ** 2 / 2, z - y] },
    "clipped-squared": {
      label: "clipped linear + squared error",
      f: (z, y) => [(clip(z, 0, 1) - y) ** 2 / 2, z > 0 && z < 1 ? z - y : 0],
    },
    "linear-log": {
      // a linear output is no probability outside (0, 1): the log loss does not exist there
      label: "linear + log loss",
      f: (z, y) => (z > 0 && z < 1 ? [-(y * log(z) + (1 - y) * log1p(-z)), (z - y) / (z * (1 - z))] : [NaN, NaN]),
    },
  };

  /** Seeded uniform numbers in [0, 1) (mulberry32), with .normal() by Box and Muller. */
  function rng(seed) {
    let s = seed >>> 0,
      spare = null;
    const u = () => {
      let t = (s = (s + 0x6d2b79f5) | 0);
      t = Math.imul(t ^ (t >>> 15), t | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    u.normal = () => {
      if (spare !== null) {
        const v = spare;
        spare = null;
        return v;
      }
      const r = sqrt(-2 * log(1 - u())),
        a = 2 * PI * u();
      spare = r * Math.sin(a);
      return r * Math.cos(a);
    };
    return u;
  }

  root.dnMath = {
    erf,
    erfc,
    phi,
    Phi,
    sigmoid,
    softplus,
    clip,
    UNITS,
    gaussMean,
    moments,
    meanField,
    logsumexp,
    softmax,
    PAIRS,
    rng,
  };
})(typeof window === "undefined" ? globalThis : window);
