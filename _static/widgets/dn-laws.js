/* Four figures of one kind, a law with a few numbers to turn: "angle-explorer" (chapter 6), "roofline-explorer" (9),
   "capture-explorer" (10), "ranks-explorer" (11). <div class="dn-widget" data-widget="roofline-explorer"><p>…</p></div> */
(function () {
  "use strict";
  const { PI, sqrt, acos, min, max } = Math;

  /** The laws themselves; checks.js compares them with numpy. */
  const LAWS = (window.dnLaws = {
    /** The cosine of two inputs behind a wide ReLU layer with He's scale. */
    relu: (c) => min(1, (sqrt(max(0, 1 - c * c)) + c * (PI - acos(max(-1, min(1, c))))) / PI),
    /** The cosines before and behind each of n blocks x + s·branch(x). */
    cosines: (c, s, n) => {
      const out = [c];
      for (let i = 0; i < n; i++) out.push((c = (c + s * s * LAWS.relu(c)) / (1 + s * s)));
      return out;
    },
    /** The same without a way around. */
    stacked: (c, n) => {
      const out = [c];
      for (let i = 0; i < n; i++) out.push((c = LAWS.relu(c)));
      return out;
    },
    /** Gflop/s that are possible at so many operations per byte. */
    roofline: (i, bandwidth, peak) => min(peak, bandwidth * i),
    /** Microseconds of n launches over k numbers: with Python between them, and in a row; a number takes a nanosecond. */
    plain: (n, k, launch) => n * (launch + k / 1000),
    captured: (n, k) => n * (0.05 + k / 1000),
    /** Seconds of a step on p ranks: its part of the work, and a ring that adds the gradients. */
    ranks: (p, work, bytes, latency, perByte) => work / p + (p > 1 ? 2 * (p - 1) * (latency + (bytes / p) * perByte) : 0),
  });

  /** A figure: sliders above a plot, a sentence below it. o: name, label, plot, sliders, draw(plot, values, D) -> sentence. */
  const figure = (o) => (D, stage) => {
    D.set(stage, { "aria-label": o.name });
    const bar = D.bar(stage),
      say = D.say;
    const at = o.sliders.map(([label, value, low, high, more]) =>
      D.slider(bar, label, { min: low, max: high, value, ...more }, () => draw()),
    );
    const plot = D.plot(D.row(stage), { label: o.name, height: 280, ...o.plot });
    const tell = say(stage);
    function draw() {
      plot.begin();
      const said = o.draw(
        plot,
        at.map((s) => s.value),
        D,
      );
      plot.end();
      tell(said);
    }
    return draw;
  };
  const pairs = (values) => values.map((v, i) => [i, v]);

  (window.dnWidgets = window.dnWidgets || {})["angle-explorer"] = figure({
    name: "Cosine of two inputs, layer by layer",
    plot: { x: [0, 30], y: [-0.5, 1], xlabel: "block", ylabel: "cosine of two inputs" },
    sliders: [
      ["factor s on the branch", 1, 0, 2, { step: 0.05 }],
      ["cosine of the inputs", 0, -0.4, 0.9, { step: 0.05 }],
    ],
    draw: (P, [s, c], D) => {
      const around = LAWS.cosines(c, s, 30),
        stack = LAWS.stacked(c, 30);
      P.line(pairs(stack), "dn-c1");
      P.line(pairs(around), "dn-c0");
      for (const i of [10, 30]) {
        P.dot(i, stack[i], "dn-f1");
        P.dot(i, around[i], "dn-f0");
      }
      return (
        `Two inputs with cosine ${D.fmt(c)}. Behind 30 stacked ReLU layers it is ${D.fmt(stack[30])}: they look alike. ` +
        `With a way around and a factor of ${D.fmt(s)} it is ${D.fmt(around[30])}. Drag the factor towards 0.`
      );
    },
  });

  (window.dnWidgets = window.dnWidgets || {})["roofline-explorer"] = figure({
    name: "Roofline",
    plot: {
      x: [0.05, 200],
      y: [0.5, 2000],
      xlog: true,
      ylog: true,
      xlabel: "operations per byte",
      ylabel: "Gflop/s",
    },
    sliders: [
      ["operations per byte I =", 1 / 12, 0.05, 200, { log: true }],
      ["memory, GB/s", 20, 5, 200, { log: true }],
      ["arithmetic, Gflop/s", 100, 5, 1500, { log: true }],
    ],
    draw: (P, [i, bandwidth, peak], D) => {
      const rate = LAWS.roofline(i, bandwidth, peak),
        edge = peak / bandwidth;
      P.curve((v) => LAWS.roofline(v, bandwidth, peak), "dn-c0", 400);
      P.dot(i, rate, "dn-f1", 6);
      return (
        `A loop with ${D.fmt(i)} operations per byte reaches at most ${D.fmt(rate)} Gflop/s, ${D.fmt((100 * rate) / peak)} % of the arithmetic: ` +
        (i < edge
          ? `it waits for memory. From ${D.fmt(edge)} operations per byte on it would not.`
          : "arithmetic is the limit, and faster memory would not help.")
      );
    },
  });

  (window.dnWidgets = window.dnWidgets || {})["capture-explorer"] = figure({
    name: "What a captured step saves",
    plot: { x: [10, 1e6], y: [1, 200], xlog: true, ylog: true, xlabel: "numbers per launch", ylabel: "times as fast" },
    sliders: [
      ["numbers per launch", 1000, 10, 1e6, { log: true }],
      ["launches in a step", 60, 5, 300, { step: 5 }],
      ["Python between two, µs", 5, 1, 20, { step: 1 }],
    ],
    draw: (P, [k, n, launch], D) => {
      const before = LAWS.plain(n, k, launch),
        after = LAWS.captured(n, k);
      P.curve((v) => LAWS.plain(n, v, launch) / LAWS.captured(n, v), "dn-c0");
      P.dot(k, before / after, "dn-f1", 6);
      return (
        `${D.fmt(n)} launches over ${D.fmt(k)} numbers take ${D.fmt(before)} µs, of which Python has ${D.fmt((100 * n * launch) / before)} %; ` +
        `captured, ${D.fmt(after)} µs: ${D.fmt(before / after)} times as fast. Drag the numbers up until it hardly pays.`
      );
    },
  });

  (window.dnWidgets = window.dnWidgets || {})["ranks-explorer"] = figure({
    name: "A step on several ranks",
    plot: { x: [1, 64], y: [0.05, 100], xlog: true, ylog: true, xlabel: "ranks", ylabel: "milliseconds" },
    sliders: [
      ["work of a step, ms", 20, 0.5, 80, { log: true }],
      ["gradients, MB", 4, 0.01, 50, { log: true }],
      ["cable, GB/s", 1.25, 0.1, 20, { log: true }],
    ],
    draw: (P, [work, size, speed], D) => {
      const time = (p) => 1000 * LAWS.ranks(p, work / 1000, size * 1e6, 20e-6, 1 / (speed * 1e9)),
        all = Array.from({ length: 64 }, (_, i) => time(i + 1)),
        best = all.indexOf(min(...all)) + 1;
      P.curve((p) => work / p, "dn-k dn-thin dn-dash");
      P.line(
        all.map((t, i) => [i + 1, t]),
        "dn-c0",
      );
      P.dot(best, time(best), "dn-f1", 6);
      return best > 1
        ? `The step of ${D.fmt(work)} ms is fastest on ${best} of up to 64 ranks, ${D.fmt(time(best))} ms: ${D.fmt(work / time(best))} times as fast, not ${best} times. The dashed line is work without a ring.`
        : `One rank is fastest: the ring costs more than it saves. Give the step more work, or fewer gradients, until a second rank pays.`;
    },
  });
})();
