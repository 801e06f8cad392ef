/* Deep Notes, interactive figures: what they share. Classic script, no library, no network, works from file://.

   A chapter embeds a figure with raw HTML; the sentence inside is what readers without JavaScript see:

     <div class="dn-widget" data-widget="activation-explorer" data-unit="gelu"><p>One sentence.</p></div>

   (No blank line inside: Markdown would end the block there.) A figure file adds itself to `window.dnWidgets`
   under the name it answers to, with a function `(D, stage, root) => redraw`. The scripts may come in any order:
   nothing runs until all of them are there, and nothing at all if the page has no such <div>. Each plot is drawn
   in real pixels and redrawn when its width changes, so that text keeps its size on a phone. */
(function () {
  "use strict";
  const reg = (window.dnWidgets = window.dnWidgets || {});
  const D = {};
  let h, s, set, fmt; // from dn-plot.js, once every script is there
  D.bar = (parent) => h("div", { class: "dn-bar" }, parent);
  D.row = (parent) => h("div", { class: "dn-row" }, parent);
  /** A slider with its value beside it; `log` moves in powers of ten. Returns an object with a `value`. */
  D.slider = (parent, label, o, on) => {
    const lab = h("label", { class: "dn-slider" }, parent),
      name = h("span", { text: label }, lab),
      f = o.log ? Math.log10 : (v) => v,
      inv = o.log ? (v) => 10 ** v : (v) => v;
    const inp = h(
        "input",
        { type: "range", min: f(o.min), max: f(o.max), step: o.step || (f(o.max) - f(o.min)) / 100 },
        lab,
      ),
      out = h("output", {}, lab);
    let cur = o.value; // kept apart: a value set by a button need not lie on the slider's own steps
    const show = () => {
      const t = (o.fmt || fmt)(cur);
      out.textContent = t;
      set(inp, { "aria-valuetext": t });
    };
    const api = {
      lab,
      inp,
      name,
      get value() {
        return cur;
      },
      set value(v) {
        inp.value = f(v);
        cur = v;
        show();
      },
    };
    api.value = cur;
    inp.addEventListener("input", () => {
      cur = +inv(+inp.value).toPrecision(o.log ? 3 : 6);
      show();
      on();
    });
    return api;
  };
  /** A select box; options: {value: label}. */
  D.select = (parent, label, options, value, on) => {
    const lab = h("label", { class: "dn-select" }, parent);
    h("span", { text: label }, lab);
    const e = h("select", { onchange: on }, lab);
    for (const k in options) h("option", { value: k, text: options[k] }, e);
    if (value in options) e.value = value;
    return e;
  };
  D.check = (parent, label, on, cls, change) => {
    const lab = h("label", { class: "dn-check" }, parent),
      e = h("input", { type: "checkbox", onchange: change }, lab);
    e.checked = on;
    if (cls) {
      const k = s("svg", { class: "dn-key", width: 26, height: 10, "aria-hidden": "true" }, lab);
      s("path", { d: "M1 5H25", class: "dn-line " + cls }, k);
    }
    h("span", { text: label }, lab);
    return e;
  };
  D.button = (parent, text, on, label) =>
    h("button", { type: "button", class: "dn-button", text, onclick: on, "aria-label": label }, parent);
  /** A sentence below the figure that says what it shows; screen readers hear it once changes pause. */
  D.say = (root) => {
    const seen = h("p", { class: "dn-say", "aria-hidden": "true" }, root),
      heard = h("p", { class: "dn-heard", role: "status", "aria-live": "polite" }, root);
    let t;
    return (text) => {
      seen.textContent = text;
      clearTimeout(t);
      t = setTimeout(() => {
        heard.textContent = text;
      }, 400);
    };
  };
  /** Moves a figure by itself: `frame(t)` for t from 0 to 1 in `ms`, at once where motion is not wanted.
      The time that a frame carries is when the frame began, which may lie before the click that asked for it. */
  D.player = () => {
    let timer = 0;
    const stop = () => {
      cancelAnimationFrame(timer);
      timer = 0;
    };
    const play = (ms, frame) => {
      stop();
      if (D.still()) return frame(1);
      const t0 = performance.now(),
        tick = (now) => {
          const t = Math.min(1, Math.max(0, (now - t0) / ms));
          timer = t < 1 ? requestAnimationFrame(tick) : 0;
          frame(t);
        };
      timer = requestAnimationFrame(tick);
    };
    return { play, stop };
  };
  D.still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
  D.json = (root) => JSON.parse(root.querySelector('script[type="application/json"]').textContent);

  function mount(root) {
    if (root.dataset.ready || !reg[root.dataset.widget]) return;
    root.dataset.ready = "1";
    Object.assign(D, window.dnPlot, { M: window.dnMath });
    const stage = h("div", { class: "dn-stage", role: "group" });
    try {
      const old = [...root.children].filter((e) => e.tagName !== "SCRIPT");
      root.appendChild(stage);
      stage.dataset.of = root.dataset.widget;
      const draw = reg[root.dataset.widget](D, stage, root);
      draw();
      old.forEach((e) => e.remove());
      let w = root.clientWidth,
        due = 0;
      if (window.ResizeObserver)
        new ResizeObserver(() => {
          if (root.clientWidth !== w && !due)
            due = requestAnimationFrame(() => {
              due = 0;
              w = root.clientWidth;
              draw();
            });
        }).observe(root);
    } catch (err) {
      // a broken figure must not take the page with it: its sentence stays
      stage.remove();
      console.error("Deep Notes figure " + root.dataset.widget + ":", err);
    }
  }
  function boot() {
    ({ h, s, set, fmt } = window.dnPlot);
    document.querySelectorAll(".dn-widget[data-widget]").forEach(mount);
  }
  if (document.readyState === "complete") boot();
  else {
    document.addEventListener("DOMContentLoaded", boot);
    window.addEventListener("load", boot);
  }
})();
