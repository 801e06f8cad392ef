/* Figure "loss-gradient": loss and gradient against the logit, for output units and losses side by side.
   data-pairs="sigmoid-log,sigmoid-squared" (names from dnMath.PAIRS), data-target="1", data-logit="-4". */
(window.dnWidgets = window.dnWidgets || {})["loss-gradient"] = function (D, stage, root) {
  "use strict";
  const { PAIRS, sigmoid, clip } = D.M,
    d = root.dataset,
    keys = Object.keys(PAIRS),
    col = (i) => "dn-c" + i;
  const first = (d.pairs || "sigmoid-log,sigmoid-squared").split(",");
  let z = d.logit ? +d.logit : -4;
  D.set(stage, { "aria-label": "Loss and gradient explorer" });
  const bar = D.bar(stage);
  const target = D.select(bar, "Target y", { 0: "0", 1: "1" }, d.target || "1", draw);
  const logit = D.slider(bar, "logit z =", { min: -8, max: 8, step: 0.1, value: z }, () => {
    z = logit.value;
    draw();
  });
  const set = D.h("fieldset", {}, D.bar(stage));
  D.h("legend", { text: "Output unit and loss:" }, set);
  const on = keys.map((k, i) => D.check(set, PAIRS[k].label, first.includes(k), col(i), draw));
  const row = D.row(stage);
  const P = D.plot(row, {
    label: "Loss against the logit",
    title: "loss L",
    x: [-8, 8],
    y: [0, 6],
    xlabel: "logit z",
    height: 270,
  });
  const Q = D.plot(row, {
    label: "Gradient against the logit",
    title: "gradient ∂L/∂z",
    x: [-8, 8],
    y: [-2, 2],
    xlabel: "logit z",
    height: 270,
  });
  const table = D.h("table", { class: "dn-table" }, D.h("div", { class: "dn-wide" }, stage));
  const say = D.say(stage);
  P.handle({
    label: "logit z",
    min: -8,
    max: 8,
    step: 0.1,
    get: () => [z, 0],
    put: (v) => {
      z = v;
      logit.value = v;
      draw();
    },
  });
  function draw() {
    const y = +target.value,
      shown = keys.map((k, i) => ({ k, i, ...PAIRS[k] })).filter(({ i }) => on[i].checked);
    [P, Q].forEach((plot, part) => {
      plot.begin();
      const bottom = part ? -2 : 0,
        top = part ? 2 : 6;
      plot.line(
        [
          [z, bottom],
          [z, top],
        ],
        "dn-k dn-thin dn-dash",
      );
      for (const c of shown) plot.curve((v) => c.f(v, y)[part], col(c.i), 640);
      for (const c of shown) plot.dot(z, c.f(z, y)[part], "dn-f" + c.i, 5);
      plot.end();
    });
    table.replaceChildren();
    const head = D.h("tr", {}, table);
    for (const t of ["at z = " + D.fmt(z), "prediction", "loss", "gradient"])
      D.h("th", { text: t, scope: "col" }, head);
    for (const c of shown) {
      const [L, g] = c.f(z, y),
        a = c.k.startsWith("sig") ? sigmoid(z) : c.k.startsWith("clip") ? clip(z, 0, 1) : z;
      const tr = D.h("tr", {}, table);
      D.h("th", { text: c.label, scope: "row" }, tr);
      for (const v of [a, L, g]) D.h("td", { text: D.fmt(v) }, tr);
    }
    const wrong = y ? z < 0 : z > 0;
    say(
      shown.length
        ? `Target ${y}, logit ${D.fmt(z)}: the model is ${z === 0 ? "undecided" : wrong ? "wrong" : "right"}. ` +
            shown.map((c) => `${c.label}: gradient ${D.fmt(c.f(z, y)[1])}`).join("; ") +
            "."
        : "Choose at least one output unit and loss.",
    );
  }
  return draw;
};
