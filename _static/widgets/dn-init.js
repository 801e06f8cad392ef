/* Figure "initialization-explorer": activation and gradient size by layer, for actual random matrices (seeded,
   width 64, 32 inputs) and for infinitely wide layers (theory).
   data-unit="tanh", data-scale="1", data-depth="20", data-weights="normal". */
(function () {
  "use strict";
  /** n × n weights with entries of variance s²/n (or s times an orthogonal matrix), row after row. */
  function weights(kind, n, s, u) {
    const W = new Float64Array(n * n),
      k = s / Math.sqrt(n),
      a = Math.sqrt(3);
    for (let i = 0; i < W.length; i++) W[i] = kind === "uniform" ? k * a * (2 * u() - 1) : k * u.normal();
    if (kind === "orthogonal")
      for (let i = 0; i < n; i++) {
        // Gram and Schmidt, twice, which is enough for float64
        const r = W.subarray(i * n, i * n + n);
        for (let pass = 0; pass < 2; pass++)
          for (let j = 0; j < i; j++) {
            const q = W.subarray(j * n, j * n + n);
            let d = 0;
            for (let c = 0; c < n; c++) d += r[c] * q[c];
            for (let c = 0; c < n; c++) r[c] -= (d / (s * s)) * q[c];
          }
        let len = 0;
        for (let c = 0; c < n; c++) len += r[c] * r[c];
        len = Math.sqrt(len);
        for (let c = 0; c < n; c++) r[c] *= s / len;
      }
    return W;
  }
  const rms = (v) => {
    let t = 0;
    for (const x of v) t += x * x;
    return Math.sqrt(t / v.length);
  };
  /** h = W x, x = f(h), layer after layer; then a random gradient sent back. Root mean squares, layers 0 … depth. */
  function simulate(M, o) {
    const u = M.UNITS[o.unit],
      a = o.param,
      n = o.width || 64,
      m = o.batch || 32,
      R = M.rng(o.seed || 0),
      Ws = [],
      hs = [];
    const act = [],
      grad = [],
      normal = () => Float64Array.from({ length: m * n }, R.normal);
    let x = normal();
    act.push(rms(x));
    for (let l = 0; l < o.depth; l++) {
      const W = weights(o.weights, n, o.scale, R),
        h = new Float64Array(m * n),
        y = new Float64Array(m * n);
      for (let b = 0; b < m; b++)
        for (let i = 0; i < n; i++) {
          let t = 0;
          for (let j = 0; j < n; j++) t += W[i * n + j] * x[b * n + j];
          h[b * n + i] = t;
          y[b * n + i] = u.f(t, a);
        }
      Ws.push(W);
      hs.push(h);
      act.push(rms(y));
      x = y;
    }
    let g = normal(),
      g0 = rms(g);
    grad[o.depth] = 1;
    for (let l = o.depth - 1; l >= 0; l--) {
      const W = Ws[l],
        h = hs[l],
        back = new Float64Array(m * n);
      for (let b = 0; b < m; b++)
        for (let i = 0; i < n; i++) {
          const d = g[b * n + i] * u.d(h[b * n + i], a);
          if (d) for (let j = 0; j < n; j++) back[b * n + j] += d * W[i * n + j];
        }
      g = back;
      grad[l] = rms(g) / g0;
    }
    return { act, grad };
  }
  /** The same sizes for infinite width: x of layer l has mean square q[l] / s², see dnMath.meanField. */
  function theory(M, o) {
    const s2 = o.scale ** 2,
      mf = M.meanField(M.UNITS[o.unit], o.param, s2, o.depth, s2);
    return { act: mf.q.map((q) => Math.sqrt(q / s2)), grad: mf.grad.map(Math.sqrt) };
  }

  function explorer(D, stage, root) {
    const M = D.M,
      d = root.dataset,
      names = {},
      width = 64;
    let seed = +d.seed || 1;
    for (const k in M.UNITS) names[k] = M.UNITS[k].label;
    D.set(stage, { "aria-label": "Initialization explorer" });
    const bar = D.bar(stage),
      bar2 = D.bar(stage);
    const unit = D.select(bar, "Unit", names, d.unit || "tanh", draw);
    const kind = D.select(
      bar,
      "weights",
      { normal: "normal", uniform: "uniform", orthogonal: "orthogonal" },
      d.weights || "normal",
      draw,
    );
    const depth = D.slider(bar, "layers", { min: 2, max: 50, step: 1, value: +d.depth || 20 }, draw);
    const scale = D.slider(
      bar2,
      "scale s, with Var W = s²/n:",
      { min: 0.05, max: 8, log: true, step: 0.005, value: +d.scale || 1 },
      draw,
    );
    for (const [t, v] of [
      ["LeCun, Xavier: 1", 1],
      ["He: √2", Math.SQRT2],
      ["W ~ N(0, 0.01²)", 0.01 * Math.sqrt(width)],
      ["W ~ N(0, 1)", Math.sqrt(width)],
    ])
      D.button(bar2, t, () => {
        scale.value = v;
        draw();
      });
    D.button(bar2, "other random numbers", () => {
      seed++;
      draw();
    });
    const row = D.row(stage),
      o = { ylog: true, xlabel: "layer", height: 270 };
    const P = D.plot(row, { ...o, label: "Size of the activations by layer", title: "size of the activations → · dashed: theory" });
    const Q = D.plot(row, { ...o, label: "Size of the gradient by layer", title: "← size of the gradient · dashed: theory" });
    const say = D.say(stage);

    function draw() {
      const p = M.UNITS[unit.value].p,
        c = {
          unit: unit.value,
          param: p && p[3],
          depth: depth.value,
          scale: scale.value,
          weights: kind.value,
          width,
          seed,
        };
      const sim = simulate(M, c),
        th = theory(M, c),
        N = c.depth;
      [
        [P, "act", "dn-c0", "dn-f0"],
        [Q, "grad", "dn-c1 dn-solid", "dn-f1"],
      ].forEach(([plot, k, cls, dot]) => {
        const ok = sim[k].concat(th[k]).filter((v) => v > 0 && isFinite(v));
        plot.begin([0, N], [Math.max(1e-30, Math.min(0.1, ...ok)) / 2, Math.min(1e30, Math.max(10, ...ok)) * 2]);
        plot.line(
          th[k].map((v, l) => [l, v]),
          "dn-k dn-thin dn-dash",
        );
        plot.line(
          sim[k].map((v, l) => [l, v]),
          cls,
        );
        sim[k].forEach((v, l) => plot.dot(l, v, dot, 3));
        plot.end();
      });
      const gone = (v) => (v === 0 ? "exactly 0" : D.fmt(v, 2));
      say(
        `${names[unit.value]}, s = ${D.fmt(c.scale)}: after ${N} layers the signal ${verdict(sim.act[N])} (${gone(sim.act[N])}); ` +
          `the gradient that reaches the input ${verdict(sim.grad[0])} (${gone(sim.grad[0])}; infinitely wide layers: ${gone(th.grad[0])}).`,
      );
    }
    return draw;
  }
  /** What became of a size that was 1: kept means kept within a factor of 2. */
  function verdict(v) {
    if (v < 0.01) return "vanishes";
    if (v > 100) return "explodes";
    return v < 0.5 ? "shrinks" : v > 2 ? "grows" : "keeps its size";
  }
  Object.assign(explorer, { simulate, theory, weights, verdict });
  (window.dnWidgets = window.dnWidgets || {})["initialization-explorer"] = explorer;
})();
