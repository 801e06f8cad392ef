/* One Python a page: started at the first run, asked one cell after the other, ended by Stop and started anew by the next run.
 * A loop in Python cannot be interrupted from outside here: that needs memory shared between page and worker, which browsers
 * give only to sites that send two special headers, and a static site sends none. So Stop ends the worker. */
const SENTENCES = {
  support: "This browser cannot run WebAssembly in a worker, so no Python runs here: open the notebook on Colab or Binder, or download it (buttons above).",
  start: "Python's files could not be fetched. Look after the network and press Run again; nothing you typed is lost.",
  fetch: "A package that this cell needs could not be fetched. Look after the network and press Run again; nothing you typed is lost.",
  memory: "The Python of this page ran out of memory or broke down, and was ended. The next run starts a new one; what you typed is kept.",
  stopped: "Stopped. The next run starts a new Python, without what had run; what you typed is kept.",
  long: "Still running. Stop ends it, if it never will; what you typed is kept.",
};

export class Session {
  /** `site`: address of the folder `live/`; `say`: shows a line of status; `changed`: called when Python starts, works, rests or ends. */
  constructor(site, say, changed) {
    Object.assign(this, { site, say, changed, worker: null, started: null, busy: false, last: 0, waiting: new Map(), queue: Promise.resolve(), generation: 0, number: 0 });
  }

  /** One piece of work after the other, however often the reader clicks; what waits when Stop is pressed is dropped. */
  enqueue(work) {
    const asked = this.generation;
    const done = this.queue.then(() => (asked === this.generation ? this.working(work) : { ok: false, fatal: "stopped" }));
    this.queue = done.catch((error) => this.say(String(error), true));
    return done;
  }

  async working(work) {
    this.busy = true;
    this.changed();
    try {
      return await work();
    } finally {
      this.busy = false;
      this.changed();
    }
  }

  /** Start Python if there is none. The result is that of a cell: `{ok}` or `{ok: false, fatal, sentence}`. */
  start(files) {
    if (typeof WebAssembly !== "object" || typeof Worker !== "function") return { ok: false, fatal: "support", sentence: SENTENCES.support };
    if (!this.started) {
      this.worker = new Worker(new URL("worker.mjs", this.site), { type: "module" });
      this.worker.onmessage = ({ data }) => this.heard(data);
      this.worker.onerror = (event) => this.failed(this.last ? "memory" : "start", event.message);
      this.started = this.send({ type: "start", site: this.site.href, files });
    }
    return this.started;
  }

  send(message, out = () => {}) {
    const id = ++this.number;
    return new Promise((resolve) => {
      const slow = message.type === "run" && setTimeout(() => this.waiting.has(id) && this.say(SENTENCES.long), 30000);
      this.waiting.set(id, { resolve: (result) => (clearTimeout(slow), resolve(result)), out });
      this.worker.postMessage({ ...message, id });
    });
  }

  heard(data) {
    if (data.type === "progress") return this.say(data.text);
    const asked = this.waiting.get(data.id);
    if (data.type === "out") return asked?.out(data);
    this.last = data.id;
    if (data.result.fatal) return this.failed(data.result.fatal, data.result.message);
    this.waiting.delete(data.id);
    asked?.resolve(data.result);
  }

  failed(fatal, message) {
    console.warn(message);
    this.end({ ok: false, fatal, message, sentence: SENTENCES[fatal] });
    this.say(SENTENCES[fatal], true);
  }

  stop() {
    this.end({ ok: false, fatal: "stopped", sentence: SENTENCES.stopped });
    this.say(SENTENCES.stopped);
  }

  /** End Python; whoever waits for it gets `result`. */
  end(result) {
    this.worker?.terminate();
    const waiting = [...this.waiting.values()];
    Object.assign(this, { worker: null, started: null, last: 0, generation: this.generation + 1, waiting: new Map() });
    waiting.forEach(({ resolve }) => resolve(result));
    this.changed(true);
  }
}
