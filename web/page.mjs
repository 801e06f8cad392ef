/* Cells that run in the page. Each cell of code gets a line of buttons; an exercise's answer gets Check and Show the solution.
 * Before the first click nothing is fetched but this script. What the reader types stays in this browser.
 *
 * The page names itself in <script id="dn-live">: {page, site, cells: {id: {part, exercise, why, seconds, smaller}}, exercises}; what the
 * cells need (code that is not shown, packages, names) is in live/<page>.json, fetched at the first click. */
import { makeEditor } from "./editor.mjs";
import { Session } from "./session.mjs";

const here = JSON.parse(document.getElementById("dn-live").textContent);
const root = new URL(here.root, location.href), site = new URL("live/", root);
const cells = new Map(); // those that the page shows, by id
let data = null; // live/<page>.json, once it is here

// -- small things -------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name in element ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...children);
  return element;
}
const button = (text, title, onclick) => make("button", { type: "button", className: "dn-button", textContent: text, title, onclick });

/** What the browser keeps for this book; null where it keeps nothing (private windows, blocked storage). */
const kept = {
  get(key) { try { return localStorage.getItem("deepnotes:" + key); } catch { return null; } },
  set(key, value) {
    try {
      value === null ? localStorage.removeItem("deepnotes:" + key) : localStorage.setItem("deepnotes:" + key, value);
    } catch { say("This browser keeps nothing for this page: download what you wrote as a notebook before you leave.", true); }
  },
};
const solved = () => JSON.parse(kept.get("solved") || "{}");

// -- the bar ------------------------------------------------------------------------------------------------------------

const line = make("span", { role: "status" });
const stop = button("■ Stop", "Ends Python; what you typed is kept", () => session.stop());
const bar = make("div", { className: "dn-python", hidden: true }, line, stop, button("Download as notebook", "The code up to your last change, with your changes", download));
function say(text, problem = false) {
  bar.hidden = false;
  line.textContent = text;
  bar.classList.toggle("dn-problem", problem);
}
const session = new Session(site, say, (ended) => {
  stop.disabled = !session.worker;
  bar.classList.toggle("dn-busy", session.busy);
  if (ended) data?.cells.forEach((cell) => (cell.ran = null));
});

/** The page's data; a failure is said and thrown. */
async function need() {
  if (data) return data;
  try {
    const answer = await fetch(new URL(here.page + ".json", site));
    if (!answer.ok) throw new Error(answer.status);
    data = await answer.json();
  } catch (error) {
    say("This page's code could not be fetched. Look after the network and press Run again.", true);
    throw error;
  }
  for (const cell of data.cells) // what would take minutes here runs smaller
    for (const [book, less] of Object.entries(here.cells[cell.id]?.smaller || {})) cell.code = cell.code.replaceAll(book, less);
  for (const [label, exercise] of Object.entries(data.exercises)) // an exercise without a place to answer has been given one
    if (exercise.call && !exercise.answer) {
      const cell = { id: "made-" + label, code: "# your answer\n" + exercise.call, kind: "shown", packages: [], binds: [], changes: [], uses: [], part: "answer", exercise: label };
      const last = data.cells.findLastIndex((other) => exercise.checks.includes(other.id));
      data.cells.splice(last + 1, 0, cell);
      Object.assign(exercise, { answer: cell.id, alone: true });
    }
  return data;
}
const find = (id) => data.cells.find((cell) => cell.id === id);

// -- one cell on the page -----------------------------------------------------------------------------------------------

class Cell {
  constructor(id, box, input) {
    Object.assign(this, { id, box, input, about: here.cells[id] || {}, editor: null, out: null });
    const { part, why, seconds, smaller } = this.about;
    this.tools = make("div", { className: "dn-tools" });
    input.after(this.tools);
    if (why) return void this.tools.append(make("span", {}, why));
    const time = seconds ? ` (about ${seconds} s)` : "";
    if (smaller) this.tools.append(make("span", { className: "dn-smaller" }, `Smaller here, for a browser's speed: ${Object.values(smaller).join(", ")}.`));
    if (part === "answer") this.tools.append(button("✓ Check", "Runs your answer and the exercise's check", () => check(this.about.exercise)));
    this.tools.append(button("▶ Run" + time, "Runs this cell, and before it what it needs", () => runCell(this)));
    this.tools.append(button(part === "answer" ? "Write" : "Edit", "Change the code; Shift+Enter runs it", () => this.edit(true)));
    if (part === "answer") this.tools.append(button("Show the solution", "", () => showSolution(this.about.exercise)));
    else this.tools.append(button("Run all above", "Runs the cells above that have not run yet, then this one", () => runCell(this, true)));
    this.reset = button("Back to the book's", "Your change is dropped", () => this.restore());
    this.reset.hidden = true;
    this.tools.append(this.reset);
    input.addEventListener("dblclick", () => this.edit(true));
    const own = kept.get(`code:${here.page}:${id}`);
    if (own !== null) this.open(own);
  }

  /** What runs: the reader's code, or the book's. */
  get code() { return this.editor ? this.editor.code : find(this.id).code; }

  async edit(focus) {
    if (!this.editor) this.open((await need(), find(this.id).code));
    if (focus) this.editor.area.focus();
  }

  open(code) {
    this.editor = makeEditor(code, "Code of this cell", (text) => this.typed(text), () => (this.about.part === "answer" ? check(this.about.exercise) : runCell(this)));
    this.input.hidden = true;
    this.input.after(this.editor.box);
    this.reset.hidden = false;
  }

  typed(text) { kept.set(`code:${here.page}:${this.id}`, text); }

  restore() {
    this.editor.box.remove();
    this.editor = null;
    this.input.hidden = false;
    this.reset.hidden = true;
    kept.set(`code:${here.page}:${this.id}`, null);
    this.clear();
    this.out?.remove();
    this.out = null;
    this.box.querySelectorAll(":scope > .cell_output").forEach((old) => (old.hidden = false));
  }

  /** An empty place for output, in place of what the book shows. */
  clear() {
    this.box.querySelectorAll(":scope > .cell_output:not(.dn-out)").forEach((old) => (old.hidden = true));
    if (!this.out) this.box.append((this.out = make("div", { className: "dn-out cell_output" })));
    this.out.replaceChildren();
  }

  show({ kind, data: content }) {
    if (kind === "clear") return this.clear();
    if (kind === "text" || kind === "stderr") {
      let last = this.out.lastElementChild;
      if (last?.dataset.kind !== kind) this.out.append((last = make("pre", { className: kind, "data-kind": kind })));
      last.textContent = (last.textContent + content).replace(/[^\n]*\r(?!\n)/g, ""); // a progress bar writes over its own line
    } else if (kind === "svg") this.out.append(...drawing(content));
    else if (kind === "png") this.out.append(make("img", { src: "data:image/png;base64," + content, alt: "Output of this cell" }));
    else {
      const holder = make("div", { className: "text_html", innerHTML: content });
      this.out.append(holder);
      window.MathJax?.typesetPromise?.([holder]);
    }
  }

  failed(result) {
    if (result.sentence) return this.out.append(make("p", { className: "dn-said" }, result.sentence));
    this.out.append(make("pre", { className: "dn-error" }, result.trace));
    if (result.kind === "MemoryError") this.out.append(make("p", { className: "dn-said" }, "The browser gives this Python no more memory: make the cell smaller, or press Stop and run again."));
    const above = result.kind === "NameError" && data.cells.some((cell) => cell.binds.includes(result.name));
    if (above) this.out.append(make("p", { className: "dn-said" }, `${result.name} comes from another cell: `, button("Run all above", "", () => runCell(this, true))));
  }
}

/** A drawing in the inks of the light page and of the dark one, as the book's own figures are. */
function drawing(svg) {
  return [["dn-light", svg], ["dn-dark", darkened(svg)]].map(([name, text]) =>
    make("img", { className: "dark-light " + name, alt: "Figure drawn by this cell", src: "data:image/svg+xml," + encodeURIComponent(text) }));
}
function darkened(svg) {
  const inks = here.inks;
  const text = svg.replace(/((?:fill|stroke|color)\s*[:=]\s*["']?)(#[0-9a-f]{3,6}|black|white)\b/gi, (all, before, color) => before + (inks[color.toLowerCase()] || color));
  return text.replace("<svg", `<svg fill="${inks.black}" color="${inks.black}"`);
}

// -- running ------------------------------------------------------------------------------------------------------------

/** The cells above `target` that bind or change what it uses, and what those use, from top to bottom. */
function needed(target, also = []) {
  const end = data.cells.indexOf(target), wanted = new Set([...uses(target), ...also.flatMap(uses)]), found = [];
  for (let i = end - 1; i >= 0; i--) {
    const cell = data.cells[i];
    if (cell.why || (cell.part && cell.exercise !== target.exercise) || cell.part === "solution" || cell.part === "answer") continue;
    const bound = cell.binds.filter((name) => wanted.has(name));
    if (!bound.length && !cell.changes.some((name) => wanted.has(name)) && !cell.binds.includes("*")) continue;
    found.unshift(cell);
    bound.forEach((name) => wanted.delete(name)); // an earlier cell of that name is replaced by this one …
    uses(cell).forEach((name) => wanted.add(name)); // … unless this one uses it
  }
  return found;
}
function uses(cell) {
  const own = cells.get(cell.id)?.editor?.code;
  return own === undefined ? cell.uses : own.replace(/#.*/g, "").match(/[A-Za-z_]\w*/g) || [];
}

/** Run one cell of the data; what it prints goes to its place on the page, if it has one and is asked for by name. */
async function execute(cell, shown) {
  const own = cells.get(cell.id), place = shown ? own : null, asked = place ? own.code : null;
  const code = asked ?? (cell.kind === "library" ? cell.brings : own?.editor?.code ?? cell.code);
  if (cell.ran === code && !shown) return { ok: true };
  place?.clear();
  place?.box.classList.add("dn-runs");
  const quiet = cell.kind === "hidden" || !place;
  const result = await session.send({ type: "run", name: cell.id, code, packages: cell.packages, quiet }, (out) => place?.show(out));
  place?.box.classList.remove("dn-runs");
  cell.ran = result.ok || quiet ? code : null; // an unseen cell that fails says why to those who look
  if (!result.ok) quiet && !result.fatal ? console.info(`cell ${cell.id}: ${result.trace}`) : place?.failed(result);
  return result;
}

/** Start Python, run `list`, and after it `last`; shows where it stands. The result is the last one, or the first failure. */
async function sequence(list, last, shown) {
  const started = await session.start(data.files);
  if (!started.ok) return started.sentence && say(started.sentence, true), started;
  const todo = list.filter((cell) => !cell.ran);
  for (const [number, cell] of todo.entries()) {
    if (todo.length > 1) say(`Running what this needs: ${number + 1} of ${todo.length} …`);
    const result = await execute(cell, shown && cell.kind !== "hidden" && cells.has(cell.id));
    if (result.fatal || (!result.ok && shown)) return result;
  }
  return execute(last, true);
}

async function runCell(own, all = false) {
  await need();
  return session.enqueue(async () => {
    say("Running …"); // the end of the run before is not this one's
    const target = find(own.id), index = data.cells.indexOf(target);
    const above = data.cells.slice(0, index).filter((cell) => !cell.why && (!cell.part || (cell.exercise === target.exercise && cell.part === "check")));
    const begin = performance.now();
    const result = await sequence(all ? above : needed(target), target, all);
    if (result.ok) say(`Ready. That took ${((performance.now() - begin) / 1000).toFixed(1)} s.`);
    else if (!result.fatal) say(`A cell raised ${result.kind}; its message stands below it.`, true);
    return result;
  });
}

// -- exercises ----------------------------------------------------------------------------------------------------------

async function check(label) {
  await need();
  const exercise = data.exercises[label], own = cells.get(exercise.answer);
  return session.enqueue(async () => {
    say("Checking …");
    const answer = find(exercise.answer), checks = exercise.checks.map(find);
    const last = checks.reduce((late, cell) => (data.cells.indexOf(cell) > data.cells.indexOf(late) ? cell : late), answer);
    const before = needed(last, [answer, ...checks]).filter((cell) => cell !== answer && !checks.includes(cell));
    let result = await sequence([...before, ...checks], answer, false);
    if (result.ok && !exercise.alone) result = await judge(exercise.call, own);
    if (result.fatal) return result;
    own.out.append(make("p", { className: result.ok ? "dn-right" : "dn-wrong" }, result.ok ? "✓ Right." : wrong(result)));
    if (result.ok) kept.set("solved", JSON.stringify({ ...solved(), [label]: { page: here.page, when: new Date().toISOString().slice(0, 10) } }));
    say(result.ok ? "Solved. The page of exercises lists it." : "Not yet: what the check says stands below your answer.");
    marks();
    return result;
  });
}
const judge = (call, own) => session.send({ type: "run", name: "check", code: call + "\nNone", packages: [], quiet: false }, (out) => own.show(out));
function wrong(result) {
  const message = result.message.trim().split("\n\n")[0];
  return `✗ Not yet. ${result.kind === "AssertionError" ? message || "The check refuses this answer." : `${result.kind}: ${message}`}`;
}

function showSolution(label) {
  const link = [...document.querySelectorAll(".solution a")].find((a) => a.hash === "#" + label), box = link?.closest(".solution, details");
  if (!box) return say("This exercise has no solution in the book: it is open.");
  if (box.matches("details")) box.open = true;
  if (box.classList.contains("toggle-hidden")) box.querySelector("button.toggle-button")?.click();
  box.scrollIntoView({ block: "nearest", behavior: "smooth" });
}

/** A sign at every exercise that was solved in this browser; on the page of exercises also how many there are. */
function marks() {
  const done = solved();
  document.querySelectorAll(".exercise[id]").forEach((box) => box.classList.toggle("dn-solved", box.id in done));
  const links = [...document.querySelectorAll(".dn-exercises a, table a")].filter((a) => a.hash.startsWith("#ex-"));
  const mine = links.filter((a) => a.closest("tr")?.querySelector("a") === a && decodeURIComponent(a.hash.slice(1)) in done);
  mine.forEach((a) => a.closest("tr").classList.add("dn-solved"));
  if (!here.exercises && links.length) {
    const text = `You have solved ${mine.length} of these exercises in this browser.`;
    const said = document.querySelector(".dn-count") || make("p", { className: "dn-count" });
    said.textContent = text;
    document.querySelector("table:has(a[href*='#ex-'])")?.before(said);
  }
}

// -- what the reader wrote, as a notebook -------------------------------------------------------------------------------

async function download() {
  await need();
  const edited = data.cells.filter((cell) => cells.get(cell.id)?.editor);
  const last = Math.max(-1, ...edited.map((cell) => data.cells.indexOf(cell)));
  const list = [{ cell_type: "markdown", source: `# ${data.title}\n\nFrom ${location.href.split("#")[0]}, with what I wrote there.` }];
  list.push({ cell_type: "code", source: `%pip install -q ${here.install.map((need) => `"${need}"`).join(" ")}` });
  let heading = "";
  for (const cell of data.cells.slice(0, last + 1)) {
    const mine = edited.includes(cell);
    if (cell.part && !mine && !edited.some((other) => other.exercise === cell.exercise)) continue;
    if (cell.part === "solution" && !mine) continue;
    if (cell.heading && cell.heading !== heading) list.push({ cell_type: "markdown", source: `## ${(heading = cell.heading)}` });
    list.push({ cell_type: "code", source: mine ? cells.get(cell.id).code : cell.brings ?? cell.code });
  }
  const notebook = {
    cells: list.map((cell, number) => ({ id: `cell-${number}`, metadata: {}, ...cell, ...(cell.cell_type === "code" && { outputs: [], execution_count: null }) })),
    metadata: { kernelspec: { name: "python3", display_name: "Python 3", language: "python" } }, nbformat: 4, nbformat_minor: 5,
  };
  const address = URL.createObjectURL(new Blob([JSON.stringify(notebook, null, 1)], { type: "application/x-ipynb+json" }));
  make("a", { href: address, download: here.page.split("/").pop() + "-mine.ipynb" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// -- the page -----------------------------------------------------------------------------------------------------------

function place(label) { // an exercise that only names its check gets a cell to answer in
  const exercise = document.getElementById(label);
  const input = make("div", { className: "cell_input" }, make("div", { className: "highlight" }, make("pre", { textContent: "# your answer\n" + here.exercises[label].call })));
  const box = make("div", { className: "cell dn-made" }, input);
  exercise.append(box);
  here.cells["made-" + label] = { part: "answer", exercise: label };
  cells.set("made-" + label, new Cell("made-" + label, box, input));
}

for (const box of document.querySelectorAll("div.cell")) {
  const id = [...box.classList].find((name) => name.startsWith("dn-c-"))?.slice(5), input = box.querySelector(".cell_input");
  if (id && input && id in here.cells) cells.set(id, new Cell(id, box, input));
}
for (const [label, { call, answer }] of Object.entries(here.exercises || {})) if (call && !answer) place(label);
document.body.append(bar);
stop.disabled = true;
marks();
