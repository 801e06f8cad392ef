/* Figure "activation-explorer": f, f', and what layers of it do to a unit of signal and a unit of gradient.
   data-unit, data-against: names from dnMath.UNITS; data-param: the first unit's parameter; data-gain: n · Var W of
   the weights, which says what a linear layer does to a mean square; data-depth: the number of layers. */
(window.dnWidgets = window.dnWidgets || {})["activation-explorer"] = function (D, stage, root) {
  "use strict";
  const { UNITS, meanField, moments } = D.M,
    d = root.dataset,
    names = {};
  D.set(stage, { "aria-label": "Activation explorer" });
  for (const k in UNITS) names[k] = UNITS[k].label;
  const bar = D.bar(stage);
  const unit = D.select(bar, "Unit", names, d.unit || "relu", () => pick(0));
  const par = D.slider(bar, "α", { min: 0, max: 1, value: 0 }, draw);
  const other = D.select(bar, "against", { none: "nothing", ...names }, d.against || "tanh", () => pick(1));
  const par2 = D.slider(bar, "α", { min: 0, max: 1, value: 0 }, draw);
  const bar2 = D.bar(stage);
  const gain = D.slider(bar2, "weights: n·Var(W) =", { min: 0.25, max: 4, step: 0.05, value: +d.gain || 2 }, draw);
  const depth = D.slider(bar2, "layers", { min: 1, max: 30, step: 1, value: +d.depth || 10 }, draw);
  const row = D.row(stage);
  const P = D.plot(row, {
    label: "The unit and its derivative",
    title: "thick: f(z) · dotted: slope f′(z)",
    x: [-5, 5],
    y: [-2, 4],
    xlabel: "pre-activation z",
    height: 290,
  });
  const Q = D.plot(row, {
    label: "Signal and gradient by layer",
    title: "thick: signal → · dotted: ← gradient",
    ylog: true,
    xlabel: "layer",
    height: 290,
  });
  const table = D.h("table", { class: "dn-table" }, D.h("div", { class: "dn-wide" }, stage));
  const say = D.say(stage);
  let z = 1;
  P.handle({
    label: "pre-activation z",
    min: -5,
    max: 5,
    step: 0.1,
    get: () => {
      const f = UNITS[unit.value].f(z, par.value); // on the curve, as far as the drawing shows it
      return [z, Math.max(-2, Math.min(4, f))];
    },
    put: (v) => {
      z = v;
      draw();
    },
    text: () => "z = " + D.fmt(z),
  });

  let started = false;
  function pick(which) {
    const sel = which ? other : unit,
      s = which ? par2 : par,
      u = UNITS[sel.value],
      p = u && u.p;
    D.set(s.lab, { hidden: !p, style: p ? null : "display:none" });
    if (p) {
      s.name.textContent = p[0] + " =";
      D.set(s.inp, { min: p[1], max: p[2], step: 0.01, "aria-label": u.label + ": " + p[0] });
      s.value = !which && d.param && !started ? +d.param : p[3];
    }
    if (started) draw();
  }
  const size = (v) => (v === 0 ? "exactly 0" : D.fmt(Math.sqrt(v)));

  function draw() {
    started = true;
    const shown = [[unit, par, 0]].concat(other.value === "none" ? [] : [[other, par2, 1]]);
    const L = depth.value,
      s2 = gain.value,
      runs = [];
    for (const [sel, s, i] of shown) {
      const u = UNITS[sel.value],
        a = s.value;
      runs.push({ u, a, i, mf: meanField(u, a, s2, L), m: moments(u, a, 1) });
    }
    P.begin();
    for (const { u, a, i } of runs) {
      P.curve((x) => u.f(x, a), i ? "dn-c1 dn-solid" : "dn-c0", 400);
      P.curve((x) => u.d(x, a), (i ? "dn-c1 dn-solid" : "dn-c0") + " dn-thin dn-short", 800);
      P.dot(z, u.f(z, a), i ? "dn-f1" : "dn-f0", 5);
      P.dot(z, u.d(z, a), i ? "dn-f1" : "dn-f0", 3.5);
    }
    P.end();
    const all = runs
      .flatMap((r) => r.mf.q.concat(r.mf.grad))
      .filter((v) => v > 0 && isFinite(v))
      .map(Math.sqrt);
    const lo = Math.max(1e-12, Math.min(0.1, ...all)),
      hi = Math.min(1e12, Math.max(10, ...all));
    Q.begin([0, L], [lo / 1.5, hi * 1.5]);
    for (const { i, mf } of runs) {
      const c = i ? "dn-c1 dn-solid" : "dn-c0";
      const pts = (v) => v.map((q, l) => [l, Math.sqrt(q)]);
      Q.line(pts(mf.q), c);
      Q.line(pts(mf.grad), c + " dn-short");
      for (const [l, v] of pts(mf.q)) Q.dot(l, v, i ? "dn-f1" : "dn-f0", 2.6);
    }
    Q.end();
    table.replaceChildren();
    const head = D.h("tr", {}, table);
    for (const t of ["", "f(" + D.fmt(z) + ")", "f′(" + D.fmt(z) + ")", "E f(z)²", "E f′(z)²"])
      D.h("th", { text: t, scope: "col" }, head);
    for (const { u, a, i, m } of runs) {
      const tr = D.h("tr", {}, table),
        th = D.h("th", { scope: "row" }, tr),
        k = D.s("svg", { class: "dn-key", width: 22, height: 10, "aria-hidden": "true" }, th);
      D.s("path", { d: "M1 5H20", class: "dn-line " + (i ? "dn-c1 dn-solid" : "dn-c0") }, k);
      th.append(" " + u.label);
      for (const t of [D.fmt(u.f(z, a)), D.fmt(u.d(z, a)), D.fmt(m.f2), D.fmt(m.d2)]) D.h("td", { text: t }, tr);
    }
    say(
      runs
        .map(
          ({ u, mf }) =>
            `${u.label}: after ${L} layers a signal of size 1 has size ${size(mf.q[L])}, and a gradient of size 1, ` +
            `sent back from the last layer, reaches the first with size ${size(mf.grad[0])}.`,
        )
        .join(" ") + " (Sizes are root mean squares in very wide random layers without biases.)",
    );
  }
  pick(0);
  pick(1);
  return draw;
};
