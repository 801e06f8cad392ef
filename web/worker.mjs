/* Python for one page, in a worker: the page stays alive while a cell runs, and ending the worker ends any loop.
 * The page says {type: "start", site, files} and {type: "run", id, name, code, packages, quiet}; the worker answers with
 * progress, output ("out"), and one "done" for each of them. All addresses are below the book's own. */
let python, run, current;
const post = (kind, data) => postMessage({ type: "out", id: current, kind, data });

/* Says what is being fetched and how much of it has come. Pyodide fetches by itself, so fetch is told to count; and as Pyodide waits
 * for ever for a file that breaks off, what breaks here ends the start. */
const sizes = {};
let fetched = 0, broke, told = false;
const broken = new Promise((_, reject) => (broke = reject));
broken.catch(() => (told = true));
self.addEventListener("unhandledrejection", (event) => told && event.preventDefault()); // Pyodide's echo of what the page is told
const plain = self.fetch.bind(self);
self.fetch = async (request, options) => {
  const address = new URL(request.url || request, self.location).href, wanted = address.split("/").pop(), packed = wanted + ".packed";
  const unpacks = packed in sizes && typeof DecompressionStream === "function", file = unpacks ? packed : wanted;
  try {
    const response = await plain(unpacks ? address + ".packed" : request, options);
    if (!response.ok) throw new Error(`${file}: the server answered ${response.status}`);
    const came = response.body && file in sizes ? counted(response, file) : response;
    return unpacks ? unpacked(came) : came;
  } catch (error) {
    broke(error);
    throw error;
  }
};

/** Python's machine code as it was before `make web` packed it, for servers that send it as it lies there. */
const unpacked = (response) =>
  new Response(response.body.pipeThrough(new DecompressionStream("gzip")), { headers: { "Content-Type": "application/wasm" } });

/** The same answer, its bytes counted as they come. */
function counted(response, file) {
  const total = sizes[file], name = file.replace(/^pyodide\.asm.*|^python_stdlib.*/, "Python").split("-")[0], reader = response.body.getReader();
  let came = 0, said = 0;
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value);
        came += value.byteLength;
        fetched += value.byteLength;
      } catch (error) {
        broke(error);
        return controller.error(error);
      }
      if (performance.now() - said < 100 && came < total) return;
      said = performance.now();
      progress(`Fetching ${name}: ${mb(came)} of ${mb(total)} MB (${mb(fetched)} MB in all, kept by the browser)`);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, { status: response.status, headers: response.headers });
}
const mb = (bytes) => (bytes / 1e6).toFixed(1);
const progress = (text) => postMessage({ type: "progress", text });

async function start({ site, files }) {
  progress("Starting Python …");
  const folder = new URL("pyodide/", site).href;
  Object.assign(sizes, await (await plain(folder + "sizes.json")).json());
  const { loadPyodide } = await import(folder + "pyodide.mjs");
  python = await Promise.race([loadPyodide({ indexURL: folder, packages: ["deepnotes", "fastcore"] }), broken]);
  const text = async (name) => (await fetch(new URL(name, site))).text();
  python.FS.writeFile("/home/pyodide/matplotlibrc", await text("figures.mplstyle"));
  for (const [path, content] of Object.entries(files)) {
    python.FS.mkdirTree("/home/pyodide/" + path.replace(/[^/]*$/, ""));
    python.FS.writeFile("/home/pyodide/" + path, content);
  }
  const module = python.runPython("import types; m = types.ModuleType('cell'); m");
  python.globals.set("source", await text("cell.py"));
  python.runPython("exec(compile(source, 'cell.py', 'exec'), m.__dict__)");
  module._post = post;
  run = module.run;
}

async function load(packages) {
  const problems = [];
  try {
    await python.loadPackage(packages, { messageCallback: () => {}, errorCallback: (text) => problems.push(text) });
  } catch (error) {
    problems.push(error);
  }
  const absent = packages.filter((name) => !(name in python.loadedPackages));
  if (absent.length) throw Object.assign(new Error(problems.join("; ") || absent.join(", ")), { fetching: true });
}

async function cell({ id, name, code, packages, quiet }) {
  current = id;
  if (packages.length) await load(packages);
  progress(quiet ? "Preparing …" : "Running …");
  let result = await run(code, name, quiet);
  const known = python.lockfile.packages, missing = Object.keys(known).find((p) => known[p].imports?.includes(result.missing));
  if (!result.ok && missing && !(missing in python.loadedPackages)) { // imported inside a function, where nobody saw it
    await load([missing]);
    if (!quiet) post("clear", "");
    result = await run(code, name, quiet);
  }
  return result;
}

self.onmessage = async ({ data }) => {
  let result;
  try {
    result = data.type === "start" ? (await start(data), { ok: true }) : await cell(data);
  } catch (error) {
    // Python's own errors come back as results; what arrives here ended Python, or never let it start
    result = { ok: false, fatal: data.type === "start" ? "start" : error.fetching ? "fetch" : "memory", message: String(error?.message || error) };
  }
  postMessage({ type: "done", id: data.id, result });
};
