/* Figure "graph-stepper": a small computational graph walked forward and back, one node or edge at a time.

   The graph is JSON in the <div>:  <script type="application/json">{"nodes": [
       {"id": "x", "value": 3}, {"id": "w", "value": -2},
       {"id": "a", "op": "*", "inputs": ["x", "w"]},
       {"id": "L", "op": "square", "inputs": ["a"], "label": "loss"}]}</script>
   Nodes stand in the order they ran (inputs first); the last one is the output unless "output" names another.
   An op from OPS is computed here; any other op brings its "value" and "local" derivatives, one for each input. */
(function () {
  "use strict";
  const sq = (v) => v * v,
    sigm = (v) => 1 / (1 + Math.exp(-v));
  const OPS = {
    // op: [value, [derivative for each input]]
    "+": (a, b) => [a + b, [1, 1]],
    "-": (a, b) => [a - b, [1, -1]],
    "*": (a, b) => [a * b, [b, a]],
    "/": (a, b) => [a / b, [1 / b, -a / (b * b)]],
    neg: (a) => [-a, [-1]],
    square: (a) => [a * a, [2 * a]],
    exp: (a) => [Math.exp(a), [Math.exp(a)]],
    log: (a) => [Math.log(a), [1 / a]],
    tanh: (a) => [Math.tanh(a), [1 - sq(Math.tanh(a))]],
    sigmoid: (a) => [sigm(a), [sigm(a) * (1 - sigm(a))]],
    relu: (a) => [Math.max(a, 0), [+(a > 0)]],
  };

  /** Walk the graph. Returns value and grad by id, and the steps: what happens, to which node, along which edge. */
  function run(graph) {
    const value = {},
      local = {},
      grad = {},
      steps = [{ kind: "start" }],
      nodes = graph.nodes,
      ops = nodes.filter((n) => n.inputs);
    for (const n of nodes) {
      if (n.inputs) {
        const [v, d] = OPS[n.op] ? OPS[n.op](...n.inputs.map((i) => value[i])) : [n.value, n.local];
        value[n.id] = n.value === undefined ? v : n.value;
        local[n.id] = n.local || d;
        steps.push({ kind: "forward", node: n.id });
      } else value[n.id] = n.value;
    }
    const out = graph.output || nodes[nodes.length - 1].id;
    grad[out] = 1;
    steps.push({ kind: "seed", node: out, grad: { ...grad } });
    for (const n of ops.slice().reverse()) {
      if (grad[n.id] === undefined) continue;
      n.inputs.forEach((to, k) => {
        const before = grad[to],
          part = grad[n.id] * local[n.id][k];
        grad[to] = (before || 0) + part;
        steps.push({ kind: "back", node: n.id, k, to, before, part, grad: { ...grad } });
      });
    }
    steps.push({ kind: "end", grad: { ...grad } });
    return { value, local, grad, steps, out };
  }

  /** How an op reads: a × b, tanh(a), a². */
  function expr(op, a) {
    if (op === "square") return (/^[\w.]+$/.test(a[0]) || a[0][0] === "(" ? a[0] : `(${a[0]})`) + "²";
    const sign = { "*": "×", "+": "+", "-": "−", "/": "÷" }[op];
    return sign ? a.join(` ${sign} `) : op === "neg" ? "−" + a[0] : `${op}(${a.join(", ")})`;
  }

  /** Columns by distance from the inputs; rows swapped until no swap saves a crossing. An edge that spans columns
      keeps a place free in each of them, so that it runs between nodes and not through them. */
  function layout(list) {
    const col = {},
      users = {};
    for (const n of list) for (const i of n.inputs || []) (users[i] = users[i] || []).push(n.id);
    for (const n of list) col[n.id] = n.inputs ? 1 + Math.max(...n.inputs.map((i) => col[i])) : 0;
    for (const n of list) if (!n.inputs && users[n.id]) col[n.id] = Math.min(...users[n.id].map((i) => col[i])) - 1;
    const cols = [],
      edges = [],
      bends = {},
      place = (id, c) => {
        col[id] = c;
        (cols[c] = cols[c] || []).push(id);
      };
    for (const n of list) {
      place(n.id, col[n.id]);
      for (const i of n.inputs || []) {
        if (bends[i + ">" + n.id]) continue;
        const path = (bends[i + ">" + n.id] = []);
        let from = i;
        for (let c = col[i] + 1; c < col[n.id]; c++) {
          const id = `${i}>${n.id}@${c}`;
          place(id, c);
          path.push(id);
          edges.push([from, id]);
          from = id;
        }
        edges.push([from, n.id]);
      }
    }
    const at = {},
      set = (c) =>
        c.forEach((id, i) => {
          at[id] = (i + 0.5) / c.length;
        });
    const cost = () => {
      // crossings first, then length
      let t = 0;
      edges.forEach(([a, b], i) => {
        t += (at[a] - at[b]) ** 2;
        for (const [p, q] of edges.slice(i + 1))
          if (col[p] === col[a] && (at[a] - at[p]) * (at[b] - at[q]) < 0) t += 10;
      });
      return t;
    };
    cols.forEach(set);
    for (let better = true, now = cost(), pass = 0; better && pass < 20; pass++) {
      better = false;
      for (const c of cols)
        for (let i = 0; i < c.length; i++)
          for (let k = i + 1; k < c.length; k++) {
            [c[i], c[k]] = [c[k], c[i]];
            set(c);
            const t = cost();
            if (t < now - 1e-9) {
              now = t;
              better = true;
            } else {
              [c[i], c[k]] = [c[k], c[i]];
              set(c);
            }
          }
    }
    return { col, cols, bends };
  }

  function stepper(D, stage, root) {
    const graph = D.json(root),
      { nodes } = graph,
      R = run(graph),
      lay = layout(nodes),
      byId = {},
      f = D.fmt;
    for (const n of nodes) byId[n.id] = n;
    const name = (id) => byId[id].label || id,
      last = R.steps.length - 1,
      L = name(R.out),
      first = R.steps.findIndex((s) => s.kind === "seed");
    let t = 0,
      timer = null;
    D.set(stage, {
      tabindex: 0,
      "aria-label": "Computational graph, step by step. Arrow right and left walk through it.",
    });
    const bar = D.bar(stage);
    D.button(bar, "|◀", () => go(0), "to the start");
    const prev = D.button(bar, "◀ back", () => go(t - 1)),
      next = D.button(bar, "step ▶", () => go(t + 1));
    D.button(bar, "▶|", () => go(last), "to the end");
    const play = D.still() ? null : D.button(bar, "play", () => (timer ? stop() : start()));
    const count = D.h("span", { class: "dn-count" }, bar);
    const P = D.plot(stage, { bare: true, label: "The graph" });
    const say = D.say(stage);
    const stop = () => {
      clearInterval(timer);
      timer = null;
      if (play) play.textContent = "play";
    };
    const start = () => {
      if (t === last) t = 0;
      timer = setInterval(() => (t < last ? move(t + 1) : stop()), 1100);
      play.textContent = "pause";
      move(t + 1);
    };
    const move = (k) => {
      t = Math.max(0, Math.min(last, k));
      draw();
    };
    const go = (k) => {
      stop();
      move(k);
    };
    stage.addEventListener("keydown", (e) => {
      const k = { ArrowRight: t + 1, ArrowLeft: t - 1, Home: 0, End: last }[e.key];
      if (k !== undefined && !e.altKey && !e.ctrlKey && !e.metaKey) {
        go(k);
        e.preventDefault();
      }
    });

    function words(s) {
      if (s.kind === "start")
        return "The inputs have values. Forward: each node computes its value from the nodes before it.";
      const par = (v) => (v < 0 ? `(${f(v)})` : f(v)),
        n = byId[s.node],
        D1 = (id) => `∂${L}/∂${name(id)}`;
      if (s.kind === "forward")
        return `Forward: ${name(s.node)} = ${expr(n.op, n.inputs.map(name))} = ${expr(
          n.op,
          n.inputs.map((i) => par(R.value[i])),
        )} = ${f(R.value[s.node])}.`;
      if (s.kind === "seed") return `The forward pass is done. Backward starts at the output: ∂${L}/∂${L} = 1.`;
      if (s.kind === "end")
        return "Done: every node was visited once in each direction, and each input knows how the output changes with it.";
      const d = R.local[s.node][s.k],
        own = `${D1(s.node)} · ∂${name(s.node)}/∂${name(s.to)} = ${par(s.grad[s.node])} · ${par(d)} = ${f(s.part)}`;
      return s.before === undefined
        ? `Backward: ${D1(s.to)} = ${own}.`
        : `Backward, a second path into ${name(s.to)}: ${own}. Gradients add at a fan-out: ${f(s.before)} + ${par(s.part)} = ${f(s.grad[s.to])}.`;
    }

    function draw() {
      const n = lay.cols.length,
        most = Math.max(...lay.cols.map((c) => c.length));
      let W = P.box.clientWidth || 600;
      const down = W < n * 98,
        bw = Math.min(96, down ? W / most - 8 : W / n - 14),
        bh = 54;
      P.begin(null, null, { height: down ? n * 92 : Math.max(130, most * 84) });
      W = P.W;
      const at = (id) => {
        const a = (lay.col[id] + 0.5) / n,
          c = lay.cols[lay.col[id]],
          b = (c.indexOf(id) + 0.5) / c.length;
        return down ? [b * W, a * P.H] : [a * W, b * P.H];
      };
      const s = R.steps[t],
        g = s.grad || {},
        back = t >= first;
      for (const b of nodes)
        (b.inputs || []).forEach((i, k) => {
          const [x1, y1] = at(i),
            [x2, y2] = at(b.id),
            twin = b.inputs.indexOf(i) !== b.inputs.lastIndexOf(i),
            o = twin ? (k ? 14 : -14) : 0;
          const on = (s.kind === "back" && s.node === b.id && s.k === k) || (s.kind === "forward" && s.node === b.id);
          const [ax, ay, cx, cy] = down
            ? [x1 + o, y1 + bh / 2, x2 + o, y2 - bh / 2]
            : [x1 + bw / 2, y1 + o, x2 - bw / 2, y2 + o];
          let px = ax,
            py = ay,
            path = `M${ax} ${ay}`;
          for (const [qx, qy] of [...lay.bends[i + ">" + b.id].map(at), [cx, cy]]) {
            path += down
              ? `C${px} ${(py + qy) / 2} ${qx} ${(py + qy) / 2} ${qx} ${qy}`
              : `C${(px + qx) / 2} ${py} ${(px + qx) / 2} ${qy} ${qx} ${qy}`;
            px = qx;
            py = qy;
          }
          D.s(
            "path",
            { class: "dn-line dn-edge " + (on ? (back ? "dn-c1 dn-solid dn-on" : "dn-c0 dn-on") : ""), d: path },
            P.notes,
          );
          if (on) {
            // an arrow head where the message arrives
            const [hx, hy] = back ? [ax, ay] : [cx, cy],
              q = back ? -1 : 1;
            D.s(
              "path",
              {
                class: back ? "dn-f1" : "dn-f0",
                d: down ? `M${hx} ${hy}l-5 ${-9 * q}h10z` : `M${hx} ${hy}l${-9 * q} -5v10z`,
              },
              P.notes,
            );
          }
        });
      for (const b of nodes) {
        const [x, y] = at(b.id),
          ran = !b.inputs || back || R.steps.findIndex((q) => q.node === b.id) <= t;
        const hot = s.kind === "back" ? s.to === b.id || s.node === b.id : s.node === b.id;
        D.s(
          "rect",
          {
            class: "dn-node " + (hot ? (back ? "dn-c1 dn-solid dn-on" : "dn-c0 dn-on") : ""),
            x: x - bw / 2,
            y: y - bh / 2,
            width: bw,
            height: bh,
            rx: 6,
          },
          P.notes,
        );
        const text = (dy, v, cls) =>
          D.s("text", { x, y: y + dy, "text-anchor": "middle", class: "dn-node-text " + cls, text: v }, P.notes);
        text(-10, name(b.id) + (b.op ? " = " + expr(b.op, b.inputs.map(name)) : ""), "dn-strong");
        text(6, ran ? f(R.value[b.id]) : "·", "dn-f0");
        text(21, g[b.id] === undefined ? "" : "grad " + f(g[b.id]), "dn-f1");
      }
      prev.disabled = t === 0;
      next.disabled = t === last;
      count.textContent = `step ${t} of ${last}`;
      say(words(s));
    }
    return draw;
  }
  stepper.run = run;
  (window.dnWidgets = window.dnWidgets || {})["graph-stepper"] = stepper;
})();
