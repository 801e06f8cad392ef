/* Figure "unfolding-viewer": the space of a small trained network, layer by layer and over training.

   Precomputed frames are JSON in the <div> (tests/book/widgets/frames.py writes them):
     layers  names, one for each space shown: ["input", "hidden 1", …]
     steps   training steps of the frames: [0, 10, …]
     grid    [rows, cols]: the first rows·cols points are a lattice laid over the input, row after row
     labels  the class of each data point; the data points follow the lattice
     scale   one number a layer: the largest |coordinate| in it over all frames
     data    base64 of little-endian int16, index [step][layer][point][2]; coordinate = int / 32767 · scale[layer]
     loss, accuracy   optional, one number a step
     line    optional, [w1, w2, b] a step: the border w·x + b = 0 that the output unit draws in the last space */
(function () {
  "use strict";
  /** Frames as a function (step, layer) -> Float64Array of x, y, x, y, … */
  function decode(j) {
    const bin = atob(j.data),
      n = bin.length / 2,
      v = new Int16Array(n),
      S = j.steps.length,
      L = j.layers.length,
      N = j.grid[0] * j.grid[1] + j.labels.length;
    for (let i = 0; i < n; i++) v[i] = bin.charCodeAt(2 * i) | (bin.charCodeAt(2 * i + 1) << 8);
    if (n !== S * L * N * 2)
      throw new Error(`frames hold ${n} numbers; steps × layers × points × 2 = ${S * L * N * 2}`);
    return (s, l) =>
      Float64Array.from(v.subarray((s * L + l) * N * 2, (s * L + l + 1) * N * 2), (q) => (q / 32767) * j.scale[l]);
  }

  function viewer(D, stage, root) {
    const j = D.json(root),
      frame = decode(j),
      [rows, cols] = j.grid,
      G = rows * cols,
      last = j.layers.length - 1,
      end = j.steps.length - 1;
    D.set(stage, { "aria-label": "How the network folds its input" });
    const bar = D.bar(stage);
    const name = (v) => {
      const a = Math.min(last, Math.floor(v + 1e-9)),
        r = v - a;
      return r < 1e-9 ? j.layers[a] : `${j.layers[a]} → ${j.layers[a + 1]}`;
    };
    const layer = D.slider(
      bar,
      "layer",
      { min: 0, max: last, step: 0.1, value: root.dataset.layer === undefined ? last : +root.dataset.layer, fmt: name },
      () => {
        stop();
        draw();
      },
    );
    const step = D.slider(
      bar,
      "training step",
      {
        min: 0,
        max: end,
        step: 1,
        value: root.dataset.step === undefined ? end : +root.dataset.step,
        fmt: (i) => String(j.steps[i]),
      },
      () => {
        stop();
        draw();
      },
    );
    const { play, stop } = D.player();
    const run = (s, top, ms) =>
      play(ms, (t) => {
        s.value = s === step ? Math.round(t * top) : t * top;
        draw();
      });
    D.button(bar, "unfold", () => run(layer, last, 2500), "play through the layers");
    if (end) D.button(bar, "train", () => run(step, end, 4000), "play through training");
    const row = D.row(stage);
    const P = D.plot(row, { label: "Points and lattice in the chosen layer", square: true });
    const Q =
      j.loss &&
      D.plot(row, {
        label: "Loss over training",
        title: "loss",
        xlabel: "training step",
        height: 210,
        x: [j.steps[0], j.steps[end]],
        y: [0, Math.max(...j.loss) * 1.1],
      });
    const say = D.say(stage);

    function draw() {
      const l = Math.min(last, layer.value),
        a = Math.floor(l + 1e-9),
        b = Math.min(last, a + 1),
        r = Math.max(0, l - a),
        s = step.value;
      const A = frame(s, a),
        B = frame(s, b),
        v = A.map((x, i) => x + r * (B[i] - x)),
        lim = 1.08 * (j.scale[a] + r * (j.scale[b] - j.scale[a]));
      const pt = (i) => [v[2 * i], v[2 * i + 1]];
      P.begin([-lim, lim], [-lim, lim]);
      for (let i = 0; i < rows; i++)
        P.line(
          Array.from({ length: cols }, (_, k) => pt(i * cols + k)),
          "dn-c5 dn-solid dn-mesh",
        );
      for (let k = 0; k < cols; k++)
        P.line(
          Array.from({ length: rows }, (_, i) => pt(i * cols + k)),
          "dn-c5 dn-solid dn-mesh",
        );
      if (j.line && l > last - 1e-9) {
        const [p, q, c] = j.line[s],
          len = Math.hypot(p, q) || 1,
          x0 = (-c * p) / len ** 2,
          y0 = (-c * q) / len ** 2,
          t = (3 * lim) / len;
        P.line(
          [
            [x0 - q * t, y0 + p * t],
            [x0 + q * t, y0 - p * t],
          ],
          "dn-k dn-dash",
        );
      }
      j.labels.forEach((y, i) => {
        // a shape for each class beside its color
        const x = P.X(v[2 * (G + i)]),
          h = P.Y(v[2 * (G + i) + 1]),
          c = "dn-point dn-f" + (y % 5);
        if (y % 3 === 0) D.s("circle", { class: c, cx: x, cy: h, r: 3.8 }, P.ink);
        else
          D.s(
            "path",
            { class: c, d: y % 3 === 1 ? `M${x} ${h - 5}l4.6 8.4h-9.2z` : `M${x - 3.6} ${h - 3.6}h7.2v7.2h-7.2z` },
            P.ink,
          );
      });
      P.end();
      if (Q) {
        Q.begin();
        Q.line(
          j.loss.map((y, i) => [j.steps[i], y]),
          "dn-c0",
        );
        Q.dot(j.steps[s], j.loss[s], "dn-f0", 6);
        Q.end();
      }
      say(
        `Space: ${name(l)}, training step ${j.steps[s]}.` +
          (j.loss ? ` Loss ${D.fmt(j.loss[s])}.` : "") +
          (j.accuracy
            ? ` ${D.fmt(100 * j.accuracy[s])} % of the points are on the right side of the border` +
              (l > last - 1e-9 && j.line ? " (dashed)." : ".")
            : ""),
      );
    }
    return draw;
  }
  viewer.decode = decode;
  (window.dnWidgets = window.dnWidgets || {})["unfolding-viewer"] = viewer;
})();
