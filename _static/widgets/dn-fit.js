/* Figure "fit-explorer": least squares with polynomials, too little and too much of it; computed in the page.
   data-degree="3", data-points="20", data-noise="0.3", data-decay="0" (weight decay λ). */
(function () {
  "use strict";
  const truth = (x) => Math.sin(Math.PI * x) + 0.5 * x,
    TOP = 20;
  /** Legendre polynomials P_0 … P_d at x, each scaled to mean square 1 on [-1, 1]. */
  function basis(x, d) {
    const p = [1, x];
    for (let k = 1; k < d; k++) p.push(((2 * k + 1) * x * p[k] - k * p[k - 1]) / (k + 1));
    return p.slice(0, d + 1).map((v, k) => v * Math.sqrt(2 * k + 1));
  }
  /** Thin singular value decomposition by one-sided Jacobi rotations: A's columns become u·s, V gathers them. */
  function svd(A) {
    // A: list of columns, which is overwritten
    const n = A.length,
      V = A.map((_, i) => A.map((__, k) => +(i === k))),
      dot = (a, b) => {
        let t = 0;
        for (let i = 0; i < a.length; i++) t += a[i] * b[i];
        return t;
      };
    for (let sweep = 0, off = 1; sweep < 40 && off > 1e-14; sweep++) {
      off = 0;
      for (let i = 0; i < n; i++)
        for (let k = i + 1; k < n; k++) {
          const a = dot(A[i], A[i]),
            b = dot(A[k], A[k]),
            c = dot(A[i], A[k]);
          if (Math.abs(c) < 1e-300 || Math.abs(c) <= 1e-15 * Math.sqrt(a * b)) continue;
          off = Math.max(off, Math.abs(c) / Math.sqrt(a * b));
          const z = (b - a) / (2 * c),
            t = (z < 0 ? -1 : 1) / (Math.abs(z) + Math.sqrt(1 + z * z)),
            co = 1 / Math.sqrt(1 + t * t),
            si = co * t;
          for (const M of [A, V])
            for (let r = 0; r < M[i].length; r++) {
              const x = M[i][r],
                y = M[k][r];
              M[i][r] = co * x - si * y;
              M[k][r] = si * x + co * y;
            }
        }
    }
    return { A, V, s: A.map((c) => Math.sqrt(dot(c, c))) };
  }
  /** Coefficients that minimize |X w − y|² + n·λ·|w|² (the constant decays too); smallest norm if many do. */
  function fit(x, y, degree, decay) {
    const rows = x.map((v) => basis(v, degree)),
      { A, V, s } = svd(rows[0].map((_, k) => rows.map((r) => r[k])));
    const w = Array(degree + 1).fill(0),
      tiny = Math.max(...s) * 1e-12;
    s.forEach((v, k) => {
      if (v <= tiny) return;
      const c = A[k].reduce((t, u, i) => t + u * y[i], 0) / (v * v + x.length * decay);
      for (let i = 0; i < w.length; i++) w[i] += c * V[k][i];
    });
    return w;
  }
  const predict = (w, x) => basis(x, w.length - 1).reduce((t, p, k) => t + p * w[k], 0);
  const mse = (w, x, y) => x.reduce((t, v, i) => t + (predict(w, v) - y[i]) ** 2, 0) / x.length;
  /** Points drawn from the truth with noise: n for training, 200 for validation. */
  function data(M, n, noise, seed) {
    const R = M.rng(seed),
      pts = (m) => {
        const x = Array.from({ length: m }, () => 2 * R() - 1);
        return { x, y: x.map((v) => truth(v) + noise * R.normal()) };
      };
    return { train: pts(n), valid: pts(200) };
  }

  function explorer(D, stage, root) {
    const d = root.dataset;
    let seed = +d.seed || 1;
    D.set(stage, { "aria-label": "Under- and overfitting explorer" });
    const bar = D.bar(stage),
      opt = (k, v) => (d[k] === undefined ? v : +d[k]);
    const degree = D.slider(bar, "degree", { min: 0, max: TOP, step: 1, value: opt("degree", 3) }, draw);
    const points = D.slider(bar, "points", { min: 5, max: 60, step: 1, value: opt("points", 20) }, draw);
    const noise = D.slider(bar, "noise", { min: 0, max: 1, step: 0.05, value: opt("noise", 0.3) }, draw);
    const decay = D.slider(
      bar,
      "weight decay λ =",
      { min: -8, max: 1, step: 0.25, value: d.decay > 0 ? Math.log10(+d.decay) : -8, fmt: (v) => D.fmt(lambda(v), 2) },
      draw,
    );
    D.button(bar, "other points", () => {
      seed++;
      draw();
    });
    const row = D.row(stage);
    const P = D.plot(row, {
      label: "Points, truth and fit",
      title: "line: fit · dashed: truth · small: validation",
      x: [-1, 1],
      y: [-2.6, 2.6],
      height: 280,
      xlabel: "x",
    });
    const Q = D.plot(row, {
      label: "Mean squared error by degree",
      title: "error · solid: training · dashed: validation",
      x: [0, TOP],
      ylog: true,
      height: 280,
      xlabel: "degree",
    });
    const say = D.say(stage);
    Q.handle({
      label: "degree",
      min: 0,
      max: TOP,
      step: 1,
      get: () => [degree.value, 1e-3],
      put: (v) => {
        degree.value = v;
        draw();
      },
    });
    function lambda(v) {
      return v <= -8 ? 0 : 10 ** v;
    } // the slider's left end is exactly none

    function draw() {
      const { train, valid } = data(D.M, points.value, noise.value, seed),
        lam = lambda(decay.value),
        k = degree.value,
        err = [];
      for (let j = 0; j <= TOP; j++) {
        const w = fit(train.x, train.y, j, lam);
        err.push({ w, train: mse(w, train.x, train.y), valid: mse(w, valid.x, valid.y) });
      }
      const best = err.reduce((b, e, j) => (e.valid < err[b].valid ? j : b), 0),
        w = err[k].w;
      P.begin();
      P.curve(truth, "dn-k dn-thin dn-dash");
      valid.x.forEach((v, i) => P.dot(v, valid.y[i], "dn-f1 dn-faint", 2));
      P.curve((v) => predict(w, v), "dn-c0");
      train.x.forEach((v, i) => P.dot(v, train.y[i], "dn-f0", 4));
      P.end();
      Q.begin(null, [1e-3, 10]);
      Q.line(
        [
          [k, 1e-3],
          [k, 10],
        ],
        "dn-k dn-thin dn-dash",
      );
      Q.line(
        err.map((e, j) => [j, Math.max(1e-9, e.train)]),
        "dn-c0",
      );
      Q.line(
        err.map((e, j) => [j, Math.min(1e9, e.valid)]),
        "dn-c1",
      );
      Q.dot(k, err[k].train, "dn-f0", 5);
      Q.dot(k, err[k].valid, "dn-f1", 5);
      Q.end();
      say(
        `Degree ${k}: training error ${D.fmt(err[k].train)}, validation error ${D.fmt(err[k].valid)} (noise alone: ${D.fmt(noise.value ** 2)}). ` +
          `Lowest validation error at degree ${best}: ${D.fmt(err[best].valid)}. ` +
          (k + 1 >= points.value && !lam ? "As many coefficients as points: the fit goes through every point." : ""),
      );
    }
    return draw;
  }
  Object.assign(explorer, { basis, svd, fit, predict, mse, data, truth });
  (window.dnWidgets = window.dnWidgets || {})["fit-explorer"] = explorer;
})();
