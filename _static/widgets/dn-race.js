/* Figure "optimizer-race": optimizers on a surface that the reader picks, from a start that the reader picks.
   data-surface="rosenbrock", data-optimizers="sgd,adam", data-steps="400". Updates are PyTorch's, with its defaults. */
(function () {
  "use strict";
  const SURFACES = {
    // f, its gradient, the window, the start, where the minimum is, learning rates that suit it
    quadratic: {
      label: "quadratic, κ = 25",
      f: (x, y) => (x * x + 25 * y * y) / 2,
      g: (x, y) => [x, 25 * y],
      box: [-5, 5, -3, 3],
      start: [-4, 2],
      min: [0, 0],
      lr: { sgd: 0.04, momentum: 0.01, nesterov: 0.01, rmsprop: 0.05, adam: 0.2, adamw: 0.2 },
    },
    rosenbrock: {
      label: "Rosenbrock's valley",
      f: (x, y) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
      g: (x, y) => [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
      box: [-2, 2, -1, 3],
      start: [-1.5, 2],
      min: [1, 1],
      lr: { sgd: 0.001, momentum: 0.001, nesterov: 0.001, rmsprop: 0.1, adam: 0.1, adamw: 0.1 },
    },
    beale: {
      label: "Beale's function",
      f: (x, y) => (1.5 - x + x * y) ** 2 + (2.25 - x + x * y * y) ** 2 + (2.625 - x + x * y ** 3) ** 2,
      g: (x, y) => {
        const a = 1.5 - x + x * y,
          b = 2.25 - x + x * y * y,
          c = 2.625 - x + x * y ** 3;
        return [
          2 * a * (y - 1) + 2 * b * (y * y - 1) + 2 * c * (y ** 3 - 1),
          2 * a * x + 4 * b * x * y + 6 * c * x * y * y,
        ];
      },
      box: [-4.5, 4.5, -3, 3],
      start: [1, 1.6],
      min: [3, 0.5],
      lr: { sgd: 0.01, momentum: 0.002, nesterov: 0.002, rmsprop: 0.05, adam: 0.2, adamw: 0.2 },
    },
    saddle: {
      // x² − y² bent up again far out, so that there is something to reach: minima at (0, ±√2)
      label: "saddle",
      f: (x, y) => x * x - y * y + y ** 4 / 4,
      g: (x, y) => [2 * x, -2 * y + y ** 3],
      box: [-2.5, 2.5, -2.5, 2.5],
      start: [2, 0.001],
      min: [0, Math.SQRT2],
      lr: { sgd: 0.05, momentum: 0.02, nesterov: 0.02, rmsprop: 0.02, adam: 0.05, adamw: 0.05 },
    },
  };
  /* Each optimizer: the change of the two weights w, given the gradient g, its state s and the step number t. */
  const adam = (decay) => (w, g, s, t, lr) =>
    w.map((v, i) => {
      s.m[i] = 0.9 * s.m[i] + 0.1 * g[i];
      s.v[i] = 0.999 * s.v[i] + 0.001 * g[i] * g[i];
      return v * (1 - lr * decay) - (lr * s.m[i]) / (1 - 0.9 ** t) / (Math.sqrt(s.v[i] / (1 - 0.999 ** t)) + 1e-8);
    });
  const heavy = (nesterov) => (w, g, s, t, lr) =>
    w.map((v, i) => {
      s.m[i] = 0.9 * s.m[i] + g[i];
      return v - lr * (nesterov ? g[i] + 0.9 * s.m[i] : s.m[i]);
    });
  const OPTIMIZERS = {
    sgd: { label: "gradient descent", step: (w, g, s, t, lr) => w.map((v, i) => v - lr * g[i]) },
    momentum: { label: "momentum", step: heavy(false) },
    nesterov: { label: "Nesterov", step: heavy(true) },
    rmsprop: {
      label: "RMSprop",
      step: (w, g, s, t, lr) =>
        w.map((v, i) => {
          s.v[i] = 0.99 * s.v[i] + 0.01 * g[i] * g[i];
          return v - (lr * g[i]) / (Math.sqrt(s.v[i]) + 1e-8);
        }),
    },
    adam: { label: "Adam", step: adam(0) },
    adamw: { label: "AdamW", step: adam(0.01) },
  };
  /** The points that an optimizer visits; it stops where numbers leave float64's sensible range. */
  function path(surface, optimizer, start, lr, steps) {
    const S = SURFACES[surface],
      O = OPTIMIZERS[optimizer],
      s = { m: [0, 0], v: [0, 0] },
      out = [start];
    let w = start;
    for (let t = 1; t <= steps; t++) {
      w = O.step(w, S.g(...w), s, t, lr);
      if (!(Math.hypot(...w) < 1e6)) break;
      out.push(w);
    }
    return out;
  }

  /** Line segments of the level sets, cell by cell (marching squares with linear interpolation). */
  function contours(f, [x0, x1, y0, y1], n, levels) {
    const X = (i) => x0 + (i / n) * (x1 - x0),
      Y = (k) => y0 + (k / n) * (y1 - y0),
      v = [];
    for (let i = 0; i <= n; i++) {
      v.push([]);
      for (let k = 0; k <= n; k++) v[i].push(f(X(i), Y(k)));
    }
    return levels.map((c) => {
      const out = [];
      for (let i = 0; i < n; i++)
        for (let k = 0; k < n; k++) {
          const q = [
              [i, k],
              [i + 1, k],
              [i + 1, k + 1],
              [i, k + 1],
            ],
            hit = [];
          for (let e = 0; e < 4; e++) {
            const [a, b] = q[e],
              [p, r] = q[(e + 1) % 4],
              u = v[a][b] - c,
              w = v[p][r] - c;
            if (u < 0 !== w < 0) {
              const t = u / (u - w);
              hit.push([X(a + t * (p - a)), Y(b + t * (r - b))]);
            }
          }
          for (let e = 0; e + 1 < hit.length; e += 2) out.push([hit[e], hit[e + 1]]);
        }
      return out;
    });
  }

  function race(D, stage, root) {
    const d = root.dataset,
      names = {},
      keys = Object.keys(OPTIMIZERS),
      first = (d.optimizers || "sgd,momentum,adam").split(",");
    const steps = +d.steps || 400,
      col = (i) => "dn-c" + i,
      dot = (i) => "dn-f" + i;
    const { play, stop } = D.player();
    let start;
    for (const k in SURFACES) names[k] = SURFACES[k].label;
    D.set(stage, { "aria-label": "Optimizer race" });
    const bar = D.bar(stage);
    const surface = D.select(bar, "Surface", names, d.surface || "quadratic", reset);
    const sx = D.slider(bar, "start: x", { min: -5, max: 5, step: 0.05, value: 0 }, moved),
      sy = D.slider(bar, "y", { min: -5, max: 5, step: 0.05, value: 0 }, moved);
    const set = D.h("fieldset", { class: "dn-racers" }, D.bar(stage));
    D.h("legend", { text: "Optimizers and learning rates:" }, set);
    const on = [],
      lr = [];
    keys.forEach((k, i) => {
      const box = D.h("div", { class: "dn-racer" }, set);
      on.push(D.check(box, OPTIMIZERS[k].label, first.includes(k), col(i), draw));
      lr.push(D.slider(box, "", { min: 1e-4, max: 2, log: true, step: 0.01, value: 0.1 }, draw));
      D.set(lr[i].inp, { "aria-label": "learning rate of " + OPTIMIZERS[k].label });
    });
    const bar3 = D.bar(stage);
    const time = D.slider(bar3, "step", { min: 0, max: steps, step: 1, value: steps }, () => {
      stop();
      draw();
    });
    D.button(bar3, "race", () =>
      play(15 * steps, (t) => {
        time.value = Math.round(t * steps);
        draw();
      }),
    );
    D.h("span", { class: "dn-count", text: "Click the map to start elsewhere." }, bar3);
    const row = D.row(stage);
    const P = D.plot(row, { label: "The surface from above, with the paths", square: true, ratio: 0.85 });
    const Q = D.plot(row, {
      label: "Height above the minimum by step",
      title: "height above the minimum",
      ylog: true,
      xlabel: "step",
      height: 280,
    });
    const say = D.say(stage);
    D.set(P.svg, {
      onclick: (e) => {
        const [x, y] = P.at(e);
        sx.value = +x.toFixed(2);
        sy.value = +y.toFixed(2);
        moved();
      },
      style: "cursor: crosshair",
    });
    function moved() {
      start = [sx.value, sy.value];
      draw();
    }
    let S, sets;
    function reset() {
      S = SURFACES[surface.value];
      const [a, b, c, e] = S.box,
        low = S.f(...S.min);
      D.set(sx.inp, { min: a, max: b });
      D.set(sy.inp, { min: c, max: e });
      [sx.value, sy.value] = start = S.start;
      keys.forEach((k, i) => {
        lr[i].value = S.lr[k];
      });
      sets = contours(
        S.f,
        S.box,
        120,
        Array.from({ length: 13 }, (_, i) => low + 10 ** (-1.2 + i * 0.4)),
      );
      draw();
    }
    function draw() {
      if (!S) return reset();
      const [a, b, c, e] = S.box,
        low = S.f(...S.min),
        t = time.value,
        runs = [];
      keys.forEach((k, i) => {
        if (on[i].checked) runs.push({ k, i, p: path(surface.value, k, start, lr[i].value, steps) });
      });
      P.begin([a, b], [c, e]);
      for (const set of sets)
        D.s(
          "path",
          {
            class: "dn-line dn-contour",
            d: set
              .map(
                ([u, v]) =>
                  `M${P.X(u[0]).toFixed(1)} ${P.Y(u[1]).toFixed(1)}L${P.X(v[0]).toFixed(1)} ${P.Y(v[1]).toFixed(1)}`,
              )
              .join(""),
          },
          P.ink,
        );
      P.text(...S.min, "✕", "dn-strong", { "text-anchor": "middle", dy: 5 });
      for (const { i, p } of runs) {
        const now = p.slice(0, t + 1);
        P.line(now, col(i) + " dn-path");
        P.dot(...now[now.length - 1], dot(i), 5.5);
      }
      P.dot(...start, "dn-f5", 5);
      P.end();
      Q.begin([0, steps], [1e-10, 1e3]);
      for (const { i, p } of runs)
        Q.line(
          p.slice(0, t + 1).map((w, n) => [n, Math.max(S.f(...w) - low, 1e-16)]),
          col(i),
        );
      Q.end();
      say(
        `After ${t} steps, height above the minimum: ` +
          (runs
            .map(
              ({ k, p }) =>
                `${OPTIMIZERS[k].label} ${p.length <= t ? "has diverged" : D.fmt(Math.max(0, S.f(...p[t]) - low), 2)}`,
            )
            .join(", ") || "no optimizer is chosen") +
          ".",
      );
    }
    return draw;
  }
  Object.assign(race, { SURFACES, OPTIMIZERS, path, contours });
  (window.dnWidgets = window.dnWidgets || {})["optimizer-race"] = race;
})();
