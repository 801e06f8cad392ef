/* Compares what the figures compute with reference.js. Runs in node (check.mjs) and in demo.html.
   Returns [name, largest error, tolerance] for each group; the error is |got − want| / max(1, |want|). */
window.dnChecks = function (ref) {
  "use strict";
  const M = window.dnMath,
    F = window.dnWidgets,
    out = [];
  const err = (got, want) => {
    if (Array.isArray(want))
      return got.length === want.length ? Math.max(0, ...want.map((w, i) => err(got[i], w))) : Infinity;
    const e = Math.abs(got - want) / Math.max(1, Math.abs(want));
    return e === e ? e : Infinity;
  };
  const group = (name, tol, rows) => {
    if (!rows.length) throw new Error(name + ": nothing to compare");
    out.push([name, Math.max(...rows), tol]);
  };
  const eps = 2.3e-16;

  group(
    "erf",
    4 * eps,
    ref.erf.map(([x, e]) => err(M.erf(x), e)),
  );
  group(
    "erfc, relative in the tail",
    1e-13,
    ref.erf.filter((r) => r[2] > 1e-300).map(([x, , c]) => Math.abs(M.erfc(x) / c - 1)),
  );
  group(
    "units",
    20 * eps,
    ref.units.map(([u, a, x, f]) => err(M.UNITS[u].f(x, a), f)),
  );
  group(
    "derivatives of units",
    40 * eps,
    ref.units.map(([u, a, x, , d]) => err(M.UNITS[u].d(x, a), d)),
  );
  const compared = new Set(ref.units.map((r) => r[0]));
  group(
    "every unit has a reference",
    0,
    Object.keys(M.UNITS).map((k) => (compared.has(k) ? 0 : Infinity)),
  );
  group(
    "E f(z)² and E f′(z)²",
    1e-11,
    ref.moments.map(([u, q, f2, d2]) => {
      const m = M.moments(M.UNITS[u], (M.UNITS[u].p || [])[3], q);
      return err([m.f2, m.d2], [f2, d2]);
    }),
  );
  group(
    "mean field",
    1e-11,
    ref.meanField.map(([u, s2, n, q, g]) => {
      const m = M.meanField(M.UNITS[u], (M.UNITS[u].p || [])[3], s2, n);
      return err([m.q, m.grad], [q, g]);
    }),
  );
  group(
    "softmax and log-sum-exp",
    4 * eps,
    ref.softmax.map(([z, p, l]) => err([M.softmax(z), M.logsumexp(z)], [p, l])),
  );
  group(
    "losses and their gradients",
    20 * eps,
    ref.pairs.map(([k, y, z, l, g]) => err(M.PAIRS[k].f(z, y), [l, g])),
  );
  group(
    "small gradients, relative",
    1e-14,
    ref.pairs
      .filter((r) => r[4] && r[0].startsWith("sig"))
      .map(([k, y, z, , g]) => Math.abs(M.PAIRS[k].f(z, y)[1] / g - 1)),
  );

  const u = M.rng(42),
    n = M.rng(42);
  group(
    "uniform random numbers",
    0,
    ref.uniform.map((v) => err(u(), v)),
  );
  group(
    "normal random numbers",
    4 * eps,
    ref.normal.map((v) => err(n.normal(), v)),
  );

  const init = F["initialization-explorer"],
    L = ref.layers,
    sim = init.simulate(M, L.options);
  group("random layers", 1e-13, [err([sim.act, sim.grad], [L.act, L.grad])]);
  const W = init.weights("orthogonal", 16, 1.5, M.rng(3)),
    dots = [];
  for (let i = 0; i < 16; i++)
    for (let k = 0; k < 16; k++) {
      let t = 0;
      for (let c = 0; c < 16; c++) t += W[i * 16 + c] * W[k * 16 + c];
      dots.push(err(t, i === k ? 2.25 : 0));
    }
  group("orthogonal weights", 1e-14, dots);
  group(
    "verdicts on a size that was 1",
    0,
    Object.entries({ 0: "vanishes", 0.005: "vanishes", 0.18: "shrinks", 0.5: "keeps its size", 1: "keeps its size", 2: "keeps its size",
      5: "grows", 1e3: "explodes" }).map(([v, word]) => (init.verdict(+v) === word ? 0 : 1)),
  );
  const he = init.theory(M, { unit: "relu", scale: Math.SQRT2, depth: 30 });
  group(
    "He keeps ReLU's signal and gradient",
    1e-12,
    [...he.act, ...he.grad].map((v) => err(v, 1)),
  );

  ref.graphs.forEach((g, i) => {
    const r = F["graph-stepper"].run(g),
      keys = Object.keys(g.grad);
    group("graph " + i, 1e-12, [
      err([r.value.L, ...keys.map((k) => r.grad[k])], [g.value, ...keys.map((k) => g.grad[k])]),
    ]);
  });
  const own = F["graph-stepper"].run({
    output: "f",
    nodes: [
      // an op that only the page's author knows, and a node off the path
      { id: "a", value: 2 },
      { id: "f", op: "mystery", inputs: ["a", "a"], value: 5, local: [3, 0.5] },
      { id: "g", op: "neg", inputs: ["f"] },
    ],
  });
  group("graph with its own op", 0, [
    err([own.value.f, own.grad.a, own.value.g], [5, 3.5, -5]),
    own.grad.g === undefined ? 0 : 1,
  ]);
  group(
    "surfaces and their gradients",
    1e-12,
    ref.surfaces.map(([k, x, y, f, a, b]) => {
      const S = F["optimizer-race"].SURFACES[k];
      return err([S.f(x, y), ...S.g(x, y)], [f, a, b]);
    }),
  );
  for (const k in F["optimizer-race"].SURFACES) {
    const S = F["optimizer-race"].SURFACES[k];
    group(
      "minimum of " + k,
      1e-12,
      S.g(...S.min).map((v) => err(v, 0)),
    );
  }
  for (const k in F["optimizer-race"].OPTIMIZERS)
    group("path of " + k, 1e-12, [
      err(F["optimizer-race"].path("quadratic", k, [-4, 2], ref.paths[k].lr, 25), ref.paths[k].path),
    ]);
  const [seg] = F["optimizer-race"].contours((x, y) => x + 2 * y, [-1, 1, -1, 1], 10, [0.3]);
  group(
    "contours lie on their level",
    1e-14,
    seg.flat().map(([x, y]) => err(x + 2 * y, 0.3)),
  );

  const fit = F["fit-explorer"];
  ref.fits.forEach((f, i) => {
    const w = fit.fit(f.x, f.y, f.degree, f.decay);
    group("fit " + i, 1e-9, [err(w, f.w), err(fit.mse(w, f.x, f.y), f.mse)]);
  });

  const laws = window.dnLaws;
  group("angles behind ReLU layers", 1e-9, [
    ...ref.laws.relu.map(([c, k]) => err(laws.relu(c), k)),
    err(laws.stacked(0.1, 6), ref.laws.stacked),
    err(laws.cosines(0.1, 0.5, 6), ref.laws.around),
  ]);
  group("roof, captured step, ring", 1e-13, [
    ...ref.laws.roof.map(([i, b, p, r]) => err(laws.roofline(i, b, p), r)),
    ...ref.laws.step.map(([n, k, c, a, b]) => err([laws.plain(n, k, c), laws.captured(n, k)], [a, b])),
    ...ref.laws.ring.map(([p, t]) => err(laws.ranks(p, 0.02, 4e6, 2e-5, 1 / 1.25e9), t)),
  ]);

  const P = ref.frames.packed,
    frame = F["unfolding-viewer"].decode(P),
    V = ref.frames.values; // half a step of int16
  group(
    "frames",
    0.5001 / 32767,
    V.flatMap((s, i) =>
      s.map((l, k) => Math.max(...l.flat().map((v, m) => Math.abs(frame(i, k)[m] - v) / P.scale[k]))),
    ),
  );
  return out;
};
