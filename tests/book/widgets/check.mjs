/* node tests/book/widgets/check.mjs: compares the figures' numbers with reference.js, then mounts each figure on a small
   stand-in for the page and uses it with the keyboard. Prints one JSON object; exits 1 if anything is wrong. */
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url)),
  dir = path.join(here, "../../../_static/widgets");

/* The part of the DOM that the figures use. */
class Element {
  constructor(tag, width) {
    Object.assign(this, {
      tagName: tag.toUpperCase(),
      attrs: {},
      children: [],
      on: {},
      dataset: {},
      width,
      parent: null,
      text: "",
    });
  }
  setAttribute(k, v) {
    this.attrs[k] = String(v);
    if (k === "value") this.val = String(v);
  }
  removeAttribute(k) {
    delete this.attrs[k];
  }
  getAttribute(k) {
    return this.attrs[k] ?? null;
  }
  addEventListener(t, f) {
    (this.on[t] = this.on[t] || []).push(f);
  }
  fire(t, e = {}) {
    for (const f of this.on[t] || [])
      f({
        preventDefault() {
          this.stopped = true;
        },
        target: this,
        ...e,
      });
    if (this.parent && e.key) this.parent.fire(t, e);
  }
  appendChild(c) {
    c.parent = this;
    this.children.push(c);
    return c;
  }
  append(...cs) {
    for (const c of cs) typeof c === "string" ? (this.text += c) : this.appendChild(c);
  }
  replaceChildren() {
    this.children = [];
    this.text = "";
  }
  remove() {
    this.parent.children = this.parent.children.filter((c) => c !== this);
  }
  set textContent(v) {
    this.text = String(v);
    this.children = [];
  }
  get textContent() {
    return this.text + this.children.map((c) => c.textContent).join("");
  }
  get clientWidth() {
    return this.width || (this.parent ? this.parent.clientWidth : 0);
  }
  get value() {
    // as a range input or select box answers
    if (this.tagName === "SELECT") return this.val ?? this.children[0].attrs.value;
    return this.val ?? "";
  }
  set value(v) {
    if (this.attrs.type !== "range") {
      this.val = String(v);
      return;
    }
    const [lo, hi, step] = [+this.attrs.min, +this.attrs.max, +this.attrs.step],
      n = Math.floor((hi - lo) / step + 1e-9);
    this.val = String(lo + step * Math.min(n, Math.max(0, Math.round((v - lo) / step))));
  }
  get firstChild() {
    return this.children[0];
  }
  getBoundingClientRect() {
    return { left: 0, top: 0, width: this.clientWidth, height: 250 };
  }
  focus() {}
  *all() {
    for (const c of this.children) {
      yield c;
      yield* c.all();
    }
  }
  find(f) {
    return [...this.all()].filter(f);
  }
  querySelector() {
    return this.find((e) => e.tagName === "SCRIPT")[0];
  }
}

function page(width, still) {
  const roots = [],
    listeners = {},
    frames = [],
    asked = new Map();
  let clock = 1000,
    ids = 0;
  const win = {
    console,
    Math,
    setTimeout: (f) => {
      frames.push(f);
      return 1;
    },
    clearTimeout() {},
    setInterval: () => 1,
    clearInterval() {},
    atob,
    performance: { now: () => clock },
    requestAnimationFrame: (f) => {
      asked.set(++ids, f);
      return ids;
    },
    cancelAnimationFrame: (id) => asked.delete(id),
    matchMedia: () => ({ matches: still }),
    document: {
      readyState: "loading",
      createElement: (t) => new Element(t),
      createElementNS: (_, t) => new Element(t),
      addEventListener: (t, f) => {
        listeners[t] = f;
      },
      querySelectorAll: () => roots,
    },
    addEventListener: (t, f) => {
      listeners[t] = f;
    },
  };
  win.window = win;
  vm.createContext(win);
  /* Runs the frames that were asked for, up to `most` of them. The first carries a time before the click that asked for
     it, as browsers may do; returns how many ran. */
  const animate = (most, seen) => {
    let n = 0,
      time = clock - 25;
    for (; asked.size && n < most; n++, time += 90, clock = Math.max(clock, time))
      for (const [id, f] of [...asked]) {
        asked.delete(id);
        f(time);
        seen(n);
      }
    return n;
  };
  return { win, roots, listeners, width, animate, forget: () => asked.clear() };
}
const files = fs
  .readdirSync(dir)
  .filter((f) => f.endsWith(".js"))
  .sort();
const load = (win, list) => list.forEach((f) => vm.runInContext(fs.readFileSync(f, "utf8"), win, { filename: f }));
const scripts = files.map((f) => path.join(dir, f));

const P0 = page(700, false);
load(P0.win, [...scripts, path.join(here, "reference.js"), path.join(here, "checks.js")]);
const checks = P0.win.dnChecks(P0.win.dnReference),
  problems = [];
P0.listeners.DOMContentLoaded(); // a page without figures: nothing may happen

const demoFrames = /textContent = '(.*)'/.exec(fs.readFileSync(path.join(here, "demo-frames.js"), "utf8"))[1];
const data = { "graph-stepper": JSON.stringify(P0.win.dnReference.graphs[1]), "unfolding-viewer": demoFrames, "unfolding-hero": demoFrames };
const names = Object.keys(P0.win.dnWidgets).sort();
let redraws = 0;

for (const [width, still] of [
  [700, false],
  [320, true],
]) {
  const P = page(width, still);
  load(P.win, width === 700 ? scripts : scripts.slice().reverse()); // a page may load the scripts in any order
  for (const name of names) {
    const root = new Element("div", width),
      say = (w) => problems.push(`${name} at ${width} px: ${w}`);
    root.dataset.widget = name;
    P.forget(); // frames of the figure before
    root.appendChild(new Element("p")).textContent = "fallback";
    if (data[name]) root.appendChild(new Element("script")).textContent = data[name];
    P.roots.splice(0, P.roots.length, root);
    P.win.console = { error: (...a) => say(a.join(" ")) };
    P.listeners.DOMContentLoaded();
    const whole = (when) => {
      redraws++;
      for (const e of root.all())
        for (const [k, v] of Object.entries(e.attrs))
          if (/NaN|Infinity|undefined/.test(v) && k !== "aria-valuetext") say(`${when}: <${e.tagName} ${k}="${v}">`);
      const text = root
        .find((e) => e.attrs.class === "dn-say")
        .map((e) => e.text)
        .join("");
      if (text.length < 20 || /NaN|undefined,|\[object/.test(text)) say(`${when}: text alternative is "${text}"`);
    };
    if (!root.children.some((c) => c.attrs.class === "dn-stage")) {
      say("did not mount");
      continue;
    }
    if (root.find((e) => e.text === "fallback").length) say("the fallback sentence stays beside the figure");
    whole("first drawing");
    if (!root.find((e) => e.attrs["aria-live"] === "polite").length) say("no live region");
    const stage = root.children.find((c) => c.attrs.class === "dn-stage");
    if (!stage.attrs["aria-label"]) say("no accessible name");
    for (const e of root.find((e) => e.tagName === "INPUT" || e.tagName === "SELECT")) {
      const label =
        e.attrs["aria-label"] || e.parent.children.map((c) => (c.tagName === "SPAN" ? c.text : "")).join("");
      if (!label) say(`an ${e.tagName} has no label`);
      if (width < 700) continue; // the controls were all moved at the other width
      if (e.tagName === "SELECT")
        for (const o of e.children.map((c) => c.attrs.value).reverse()) {
          e.value = o;
          e.fire("change");
          whole(`select ${label} = ${o}`);
        }
      else if (e.attrs.type === "checkbox")
        for (const on of [true, false, true]) {
          e.checked = on;
          e.fire("change");
          whole(`checkbox ${label}`);
        }
      else
        for (const v of [e.attrs.min, e.attrs.max, (+e.attrs.min + +e.attrs.max) / 2]) {
          e.value = v;
          e.fire("input");
          whole(`slider ${label} = ${v}`);
        }
    }
    for (const e of root.find((e) => e.attrs.role === "slider")) {
      if (!e.attrs["aria-label"] || e.attrs.tabindex !== "0") say("a handle that the keyboard cannot reach");
      e.fire("keydown", { key: "Home" });
      const a = +e.attrs["aria-valuenow"];
      e.fire("keydown", { key: "ArrowUp" });
      if (!(+e.attrs["aria-valuenow"] > a)) say(`${e.attrs["aria-label"]}: arrow up does not raise it`);
      e.fire("keydown", { key: "End" });
      if (+e.attrs["aria-valuenow"] !== +e.attrs["aria-valuemax"])
        say(`${e.attrs["aria-label"]}: End is not its largest value`);
      whole("handle " + e.attrs["aria-label"]);
    }
    for (const e of root.find((e) => e.tagName === "BUTTON")) {
      e.fire("click");
      whole("button " + e.text);
      const n = P.animate(400, (i) => whole(`button ${e.text}, frame ${i}`));
      if (n === 400 && name !== "unfolding-hero") say(`button ${e.text}: its animation does not end`);
      if (["race", "unfold", "train"].includes(e.text) && (still ? n > 0 : n < 3))
        say(`button ${e.text}: ${n} frames${still ? " although motion is not wanted" : ""}`);
    }
    if (name === "unfolding-hero") {
      // moves by itself (not where motion is not wanted), and holds when told to
      const button = root.find((e) => e.tagName === "BUTTON")[0];
      for (let i = 0; i < 2; i++) {
        const playing = button.textContent === "pause",
          n = P.animate(50, () => whole("playing"));
        if (playing !== n > 0) say(`${n} frames while its button says "${button.textContent}"`);
        button.fire("click");
      }
    }
    if (name === "softmax-explorer") {
      // adding one number to all logits changes nothing, at the ends of the range too
      const said = () => root.find((e) => e.attrs.class === "dn-say")[0].text,
        by = (t) => root.find((e) => e.tagName === "BUTTON" && e.text.startsWith(t))[0];
      by("reset").fire("click");
      const before = said();
      for (const [t, n] of [
        ["add 1", 20],
        ["subtract 1", 40],
      ]) {
        for (let i = 0; i < n; i++) if (!by(t).disabled) by(t).fire("click");
        if (said() !== before) say(`"${t}" changed the probabilities: ${said()}`);
        if (!by(t).disabled) say(`"${t}" is still offered at the end of the range`);
      }
    }
    if (name === "graph-stepper") {
      // walk the whole way with the arrow keys, then back
      stage.fire("keydown", { key: "Home" });
      const count = () => stage.find((e) => e.attrs.class === "dn-count")[0].text,
        first = count(),
        n = +first.split(" ").pop();
      for (let i = 0; i < n; i++) {
        stage.fire("keydown", { key: "ArrowRight" });
        whole("step " + i);
      }
      if (count() !== `step ${n} of ${n}`) say(`arrow right ends at "${count()}"`);
      for (let i = 0; i < n; i++) stage.fire("keydown", { key: "ArrowLeft" });
      if (count() !== first) say(`arrow left ends at "${count()}"`);
    }
  }
}
// A figure whose data is broken keeps its sentence and leaves the page alone.
const B = page(700, false),
  broken = new Element("div", 700);
load(B.win, scripts);
B.win.console = {
  error() {
    this.called = true;
  },
};
broken.dataset.widget = "unfolding-viewer";
broken.appendChild(new Element("p")).textContent = "fallback";
broken.appendChild(new Element("script")).textContent = "{";
B.roots.push(broken);
B.listeners.DOMContentLoaded();
if (broken.children.length !== 2 || !B.win.console.called)
  problems.push("a broken figure does not fall back to its sentence");

const bad = checks.filter(([, e, tol]) => !(e <= tol));
console.log(JSON.stringify({ names, checks, problems, redraws }));
process.exit(bad.length || problems.length ? 1 : 0);
