/* Figure "unfolding-hero": the frames of "unfolding-viewer" (its last training step), moving by themselves through the
   layers and back, with a button to hold them. Where motion is not wanted it stands still, unfolded. */
(function () {
  "use strict";
  const HOLD = 1200,
    MOVE = 4200; // ms
  /** Where between the first layer (0) and the last (1) the figure is at a time: hold, unfold, hold, fold. */
  function place(ms) {
    const round = 2 * (HOLD + MOVE),
      t = ((ms % round) + round) % round,
      ease = (u) => u * u * (3 - 2 * u);
    if (t < HOLD) return 0;
    if (t < HOLD + MOVE) return ease((t - HOLD) / MOVE);
    if (t < 2 * HOLD + MOVE) return 1;
    return 1 - ease((t - 2 * HOLD - MOVE) / MOVE);
  }
  function hero(D, stage, root) {
    const j = D.json(root),
      frame = window.dnWidgets["unfolding-viewer"].decode(j),
      [rows, cols] = j.grid,
      G = rows * cols,
      last = j.layers.length - 1,
      step = j.steps.length - 1;
    D.set(stage, { "aria-label": "Two spirals, unfolded by a network" });
    const P = D.plot(stage, { label: "The points in one layer after the other", square: true, bare: true });
    const bar = D.bar(stage);
    let spent = 0,
      before = 0,
      timer = 0;
    const button = D.button(bar, "", () => (timer ? halt() : start()));
    const say = D.say(stage);
    let told = "";
    function tick(now) {
      spent += Math.max(0, now - before);
      before = Math.max(before, now);
      timer = requestAnimationFrame(tick);
      draw();
    }
    function start() {
      before = performance.now();
      timer = requestAnimationFrame(tick);
      button.textContent = "pause";
    }
    function halt() {
      cancelAnimationFrame(timer);
      timer = 0;
      button.textContent = "play";
    }
    function draw() {
      const v = (D.still() && !timer ? 1 : place(spent)) * last,
        a = Math.min(last, Math.floor(v)),
        b = Math.min(last, a + 1),
        r = v - a,
        A = frame(step, a),
        B = frame(step, b),
        lim = 1.06 * (j.scale[a] + r * (j.scale[b] - j.scale[a]));
      P.begin([-lim, lim], [-lim, lim]);
      const pt = (i) => [A[2 * i] + r * (B[2 * i] - A[2 * i]), A[2 * i + 1] + r * (B[2 * i + 1] - A[2 * i + 1])];
      const mesh = (n, m, at) => {
        for (let i = 0; i < n; i++)
          P.line(
            Array.from({ length: m }, (_, k) => pt(at(i, k))),
            "dn-c5 dn-solid dn-mesh",
          );
      };
      mesh(rows, cols, (i, k) => i * cols + k);
      mesh(cols, rows, (i, k) => k * cols + i);
      j.labels.forEach((y, i) => P.dot(...pt(G + i), "dn-point dn-f" + (y % 5), 3.6));
      P.end();
      const words =
        v < 0.5
          ? "Two spirals, as they were drawn: no straight line parts them."
          : v > last - 0.5
            ? "The last layer of a trained network: now a straight line does."
            : "Layer by layer, the network bends the plane and the points with it.";
      if (words !== told) say((told = words));
    }
    if (D.still()) button.textContent = "play";
    else start();
    return draw;
  }
  hero.place = place;
  (window.dnWidgets = window.dnWidgets || {})["unfolding-hero"] = hero;
})();
