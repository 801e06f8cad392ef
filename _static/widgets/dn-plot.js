/* Deep Notes, interactive figures: elements, numbers as text, and one SVG plot with axes and draggable handles.
   What it offers is handed to each figure by dn-core.js, as part of D. */
(function () {
  "use strict";
  const NS = "http://www.w3.org/2000/svg";
  let ids = 0;

  function set(e, attrs) {
    for (const k in attrs) {
      const v = attrs[k];
      if (k === "text") e.textContent = v;
      else if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (v === false || v == null) e.removeAttribute(k);
      else e.setAttribute(k, v === true ? "" : v);
    }
    return e;
  }
  const add = (e, attrs, parent) => {
    set(e, attrs);
    if (parent) parent.appendChild(e);
    return e;
  };
  const h = (tag, attrs, parent) => add(document.createElement(tag), attrs, parent);
  const s = (tag, attrs, parent) => add(document.createElementNS(NS, tag), attrs, parent);

  /** Short decimal text with a true minus sign; powers of ten where decimals would be zeros. */
  function fmt(v, digits = 3) {
    if (v === Infinity) return "∞";
    if (v === -Infinity) return "−∞";
    if (v !== v) return "undefined";
    const a = Math.abs(v);
    let t;
    if (a !== 0 && (a >= 1e5 || a < 1e-3)) {
      const [m, e] = v.toExponential(Math.max(0, digits - 2)).split("e");
      const up = e.replace("+", "").replace(/[-\d]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻");
      t = (+m === 1 ? "" : +m === -1 ? "-" : +m + "·") + "10" + up;
    } else t = String(+v.toPrecision(digits));
    return t.replace(/^-/, "−");
  }

  function ticks(lo, hi, n, log) {
    const out = [];
    if (log) {
      const a = Math.ceil(Math.log10(lo) - 1e-9),
        b = Math.floor(Math.log10(hi) + 1e-9),
        step = Math.max(1, Math.ceil((b - a) / n));
      for (let e = Math.ceil(a / step) * step; e <= b; e += step) out.push(10 ** e);
      return out;
    }
    const raw = (hi - lo) / n,
      p = 10 ** Math.floor(Math.log10(raw)),
      step = p * [1, 2, 5, 10].find((m) => m * p >= raw);
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + step * 1e-9; k++) out.push(+(k * step).toPrecision(12));
    return out;
  }

  /** One SVG plot. o: label, height, x and y ranges, xlabel, ylabel, xlog, ylog, square, bare (no axes). */
  function plot(parent, o) {
    const box = h("div", { class: "dn-plot" }, parent),
      id = "dn-clip-" + ++ids;
    const svg = s("svg", { role: "group", "aria-label": o.label || "" }, box);
    const clipRect = s("rect", {}, s("clipPath", { id }, s("defs", {}, svg)));
    const under = s("g", { "aria-hidden": "true" }, svg),
      g = s("g", { "aria-hidden": "true" }, svg);
    const ink = s("g", { "clip-path": `url(#${id})` }, g),
      notes = s("g", {}, g),
      top = s("g", {}, svg);
    const m = o.bare ? { l: 4, r: 4, t: 4, b: 4 } : { l: 44, r: 10, t: o.title ? 24 : 10, b: o.xlabel ? 40 : 24 };
    let W = 0,
      H = 0,
      x = o.x || [0, 1],
      y = o.y || [0, 1];
    const T = (v, log) => (log ? Math.log10(v) : v);
    const P = { box, svg, ink, notes, top, handles: [] };
    P.X = (v) => m.l + ((T(v, o.xlog) - T(x[0], o.xlog)) / (T(x[1], o.xlog) - T(x[0], o.xlog))) * (W - m.l - m.r);
    P.Y = (v) => H - m.b - ((T(v, o.ylog) - T(y[0], o.ylog)) / (T(y[1], o.ylog) - T(y[0], o.ylog))) * (H - m.t - m.b);
    const back = (r, log, t) => (log ? 10 ** (T(r[0], 1) + t * (T(r[1], 1) - T(r[0], 1))) : r[0] + t * (r[1] - r[0]));
    P.at = (e) => {
      // the plot's coordinates under the pointer
      const b = svg.getBoundingClientRect();
      return [
        back(x, o.xlog, (e.clientX - b.left - m.l) / (W - m.l - m.r)),
        back(y, o.ylog, (H - m.b - e.clientY + b.top) / (H - m.t - m.b)),
      ];
    };
    /** Start a drawing: measure the width, draw axes, drop the old ink. */
    P.begin = (xr, yr, more) => {
      Object.assign(o, more);
      x = xr || x;
      y = yr || y;
      W = Math.max(200, Math.round(box.clientWidth || 300));
      H = o.square ? Math.round(Math.min(W, 420) * (o.ratio || 1)) : o.height || 250;
      set(svg, { viewBox: `0 0 ${W} ${H}`, width: W, height: H });
      set(clipRect, { x: m.l - 5, y: m.t, width: Math.max(0, W - m.l - m.r + 10), height: H - m.t - m.b });
      [under, ink, notes].forEach((e) => e.replaceChildren());
      P.W = W;
      P.H = H;
      P.m = m;
      if (o.title) s("text", { class: "dn-title", x: m.l, y: 15, text: o.title }, under);
      if (o.bare) return P;
      for (const v of o.xticks || ticks(x[0], x[1], W / 80, o.xlog)) {
        s("line", { class: v || o.xlog ? "dn-grid" : "dn-axis", x1: P.X(v), x2: P.X(v), y1: m.t, y2: H - m.b }, under);
        s(
          "text",
          {
            class: "dn-tick",
            x: P.X(v),
            y: H - m.b + 15,
            "text-anchor": "middle",
            text: o.xnames ? o.xnames(v) : fmt(v),
          },
          under,
        );
      }
      for (const v of ticks(y[0], y[1], H / 50, o.ylog)) {
        s("line", { class: v || o.ylog ? "dn-grid" : "dn-axis", x1: m.l, x2: W - m.r, y1: P.Y(v), y2: P.Y(v) }, under);
        s("text", { class: "dn-tick", x: m.l - 5, y: P.Y(v) + 4, "text-anchor": "end", text: fmt(v) }, under);
      }
      if (o.xlabel)
        s(
          "text",
          { class: "dn-lab", x: (W + m.l - m.r) / 2, y: H - 5, "text-anchor": "middle", text: o.xlabel },
          under,
        );
      if (o.ylabel) s("text", { class: "dn-lab", x: m.l + 4, y: m.t + 12, text: o.ylabel }, notes);
      return P;
    };
    /** A line through [x, y] points; a value that is not finite lifts the pen. */
    P.line = (pts, cls) => {
      let d = "",
        pen = false;
      for (const [a, b] of pts) {
        const u = P.X(a),
          v = P.Y(b);
        if (u === u && v === v && Math.abs(u) !== Infinity && Math.abs(v) !== Infinity) {
          d += (pen ? "L" : "M") + u.toFixed(1) + " " + Math.max(-1e4, Math.min(1e4, v)).toFixed(1);
          pen = true;
        } else pen = false;
      }
      return s("path", { d, class: "dn-line " + cls }, ink);
    };
    P.curve = (f, cls, n = 300) =>
      P.line(
        Array.from({ length: n + 1 }, (_, i) => {
          const v = back(x, o.xlog, i / n);
          return [v, f(v)];
        }),
        cls,
      );
    P.dot = (a, b, cls, r = 4) =>
      P.X(a) === P.X(a) && isFinite(P.Y(b))
        ? s("circle", { cx: P.X(a), cy: P.Y(b), r, class: "dn-dot " + cls }, ink)
        : null;
    P.text = (a, b, text, cls = "", attrs) =>
      s("text", { x: P.X(a), y: P.Y(b), class: "dn-lab " + cls, text, ...attrs }, notes);
    /** A handle to drag, or to move with the arrow keys.
        c: label, min, max, step, vertical, cls, get() -> [x, y], put(value), text() for screen readers. */
    P.handle = (c) => {
      const e = s(
        "circle",
        { class: "dn-handle " + (c.cls || "dn-k"), r: 10.5, tabindex: 0, role: "slider", "aria-label": c.label },
        top,
      );
      const r = (v) => c.min + Math.round((Math.min(c.max, Math.max(c.min, v)) - c.min) / c.step) * c.step;
      const now = () => c.get()[c.vertical ? 1 : 0],
        go = (v) => c.put(+r(v).toPrecision(10));
      set(e, {
        "aria-valuemin": c.min,
        "aria-valuemax": c.max,
        "aria-orientation": c.vertical ? "vertical" : "horizontal",
      });
      set(e, {
        onpointerdown: (ev) => {
          e.setPointerCapture(ev.pointerId);
          e.focus();
          ev.preventDefault();
        },
        onpointermove: (ev) => {
          if (e.hasPointerCapture(ev.pointerId)) go(P.at(ev)[c.vertical ? 1 : 0]);
        },
        onkeydown: (ev) => {
          const big = (c.max - c.min) / 10,
            k = {
              ArrowRight: c.step,
              ArrowUp: c.step,
              ArrowLeft: -c.step,
              ArrowDown: -c.step,
              PageUp: big,
              PageDown: -big,
            }[ev.key];
          if (k) go(now() + k);
          else if (ev.key === "Home") go(c.min);
          else if (ev.key === "End") go(c.max);
          else return;
          ev.preventDefault();
        },
      });
      const H = {
        e,
        draw() {
          const [a, b] = c.get();
          set(e, { cx: P.X(a), cy: P.Y(b), "aria-valuenow": now(), "aria-valuetext": c.text ? c.text() : fmt(now()) });
        },
      };
      P.handles.push(H);
      return H;
    };
    P.end = () => P.handles.forEach((k) => k.draw());
    return P;
  }

  window.dnPlot = { h, s, set, fmt, ticks, plot };
})();
