/* Figure "softmax-explorer": logits and temperature to drag, a target to choose; probabilities, loss, gradient.
   data-logits="2,1,0,-1", data-labels="cat,dog,…", data-target="0", data-temperature="1". */
(window.dnWidgets = window.dnWidgets || {})["softmax-explorer"] = function (D, stage, root) {
  "use strict";
  const { softmax, logsumexp } = D.M,
    d = root.dataset,
    lim = 6;
  const z = (d.logits || "2,1,0,-1").split(",").map((v) => Math.max(-lim, Math.min(lim, +v))),
    n = z.length;
  const names = d.labels ? d.labels.split(",") : z.map((_, i) => "class " + (i + 1));
  D.set(stage, { "aria-label": "Softmax explorer" });
  const bar = D.bar(stage);
  const target = D.select(bar, "True class", { ...names }, String(+d.target || 0), draw);
  const temp = D.slider(
    bar,
    "temperature T =",
    { min: 0.1, max: 10, log: true, step: 0.02, value: +d.temperature || 1 },
    draw,
  );
  // one shift for all, or (at the end of the range) none: clamping each by itself would change the probabilities
  const plus = D.button(bar, "add 1 to every logit", () => shift(1)),
    minus = D.button(bar, "subtract 1", () => shift(-1), "subtract 1 from every logit");
  function shift(by) {
    for (let i = 0; i < n; i++) z[i] = +(z[i] + by).toFixed(10);
    draw();
  }
  D.button(bar, "reset", () => {
    (d.logits || "2,1,0,-1").split(",").forEach((v, i) => {
      z[i] = Math.max(-lim, Math.min(lim, +v));
    });
    temp.value = +d.temperature || 1;
    draw();
  });
  const row = D.h("div", { class: "dn-row dn-thirds" }, stage),
    ticks = z.map((_, i) => i + 0.5),
    nm = (v) => names[Math.floor(v)];
  const base = { x: [0, n], xticks: ticks, xnames: nm, height: 230 };
  const A = D.plot(row, {
    ...base,
    label: "Logits: one slider for each class",
    title: "logits z (drag the handles)",
    y: [-lim - 0.6, lim + 0.6],
  });
  const B = D.plot(row, { ...base, label: "Probabilities", title: "probabilities p", y: [0, 1.08] });
  const C = D.plot(row, { ...base, label: "Gradient of the loss at the logits", title: "", y: [-1, 1] });
  const say = D.say(stage);
  z.forEach((_, i) =>
    A.handle({
      label: "logit of " + names[i],
      min: -lim,
      max: lim,
      step: 0.1,
      vertical: true,
      get: () => [i + 0.5, z[i]],
      put: (v) => {
        z[i] = v;
        draw();
      },
    }),
  );
  function bars(P, v, cls) {
    v.forEach((h, i) => {
      const a = P.Y(Math.max(h, 0)),
        b = P.Y(Math.min(h, 0));
      D.s(
        "rect",
        {
          class: "dn-barfill " + cls(i),
          x: P.X(i + 0.2),
          width: P.X(i + 0.8) - P.X(i + 0.2),
          y: a,
          height: Math.max(0.5, b - a),
        },
        P.ink,
      );
    });
  }
  const value = (P, v) =>
    v.forEach((h, i) => P.text(i + 0.5, h, D.fmt(h, 2), "dn-strong", { "text-anchor": "middle", dy: h < 0 ? 14 : -5 }));

  function draw() {
    const T = temp.value,
      t = +target.value,
      zt = z.map((v) => v / T),
      p = softmax(zt);
    const loss = logsumexp(zt) - zt[t],
      g = p.map((v, i) => (v - (i === t)) / T),
      col = (i) => (i === t ? "dn-f1" : "dn-f0");
    plus.disabled = Math.max(...z) > lim - 1;
    minus.disabled = Math.min(...z) < 1 - lim;
    A.begin();
    bars(A, z, col);
    A.end();
    B.begin();
    bars(B, p, col);
    value(B, p);
    B.end();
    const top = 1.4 * Math.max(0.01, ...g.map(Math.abs));
    C.begin(null, [-top, top], { title: T === 1 ? "gradient ∂L/∂z = p − y" : "gradient ∂L/∂z = (p − y)/T" });
    bars(C, g, col);
    value(C, g);
    C.end();
    const best = p.indexOf(Math.max(...p));
    say(
      `Loss −log p(${names[t]}) = ${D.fmt(loss)}. Most probable: ${names[best]}, ${D.fmt(p[best], 2)}. The probabilities sum to 1, the gradient to 0` +
        (T === 1
          ? ": it is the prediction minus the target."
          : `: prediction minus target, divided by T = ${D.fmt(T)}.`),
    );
  }
  return draw;
};
