# ruff: noqa: E501
"""The built book, judged in a real browser: `make test-web` (a gate), `make test-web ARGS=--quick` (five pages).

Playwright and axe-core come with the extra `web`; the browser is the Chromium on the PATH, in DEEPNOTES_CHROMIUM, or the one that
`playwright install chromium` fetched. Nothing else is fetched: the book is served (with gzip, as GitHub Pages does) on 127.0.0.1
and every other host is blocked.

Counts, per page, as a reader meets it on a desktop of 1280 px in the light theme, on a phone of 390 px and (not with
`--quick`) on the desktop in the dark theme:
  cons   console errors and uncaught exceptions
  fail   failed requests (404 and the like)            fore   requests to any other host
  math   formulas set                                  raw    formulas not set, set as an error, or left as TeX
  ovfl   the page is wider than the phone              scrl   boxes that scroll sideways on the phone
  cut    pieces of shown code cut at the right on the desktop, of how many
  prnt   the same in print, on A4                      code   share of the article's height that is shown code, in %
  alt    pictures without alt text, or that do not load
  axeL, axeD   nodes with serious or critical axe violations: WCAG 2.1 A and AA in light, contrast in dark
  kB, req      over the wire with an empty cache       fcp, cls   first contentful paint in ms, layout shift
Once for the book: broken links and anchors, formulas with a doubled backslash, pages without description or share
picture; every control of every interactive figure moved by mouse and by keyboard (does the drawing change, does
anything throw, does an arrow key turn the page?), arrow keys on a code block; searches whose answer is known (not
with `--quick`).
In the figures every animation frame carries a time slightly before the click that asked for it. Browsers do that
whenever they like; here it happens always, so that code which cannot bear it fails every time.

Exit status: 0 nothing found; 1 violations (each kind listed once, with its number of pages and its first place);
2 the audit itself could not run (no folder, no Playwright, no browser).
Times (fcp) depend on the machine's load: they are printed, and are violations only with `--max-fcp`.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import json
import os
import queue
import re
import shutil
import sys
import tarfile
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}
A4 = {"width": 718, "height": 1000}  # the printable width of A4 with 1 cm margins, in CSS pixels
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
QUICK = ["nbs/index", "nbs/02_", "nbs/04_", "nbs/07_", "nbs/api/activations"]
QUERIES = {  # query -> one of these pages must be among the first five hits
    "cross entropy": ["04_outputs", "api/outputs"],
    "vanishing gradient": ["03_activations", "05_initialization"],
    "dropout": ["06_layers", "api/layers"],
    "Adam": ["07_optimizers", "api/optimizers"],
    "He initialization": ["05_initialization", "api/initialization"],
    "early stopping": ["08_training", "library/training/callbacks", "api/training"],
    "batch normalization": ["06_layers", "library/modules", "api/layers"],
    "grad_check": ["02_backprop", "library/autograd/operations", "api/autograd"],
    "learning rate schedule": ["library/schedules", "07_optimizers", "api/schedules"],
    "softmax": ["04_outputs"],  # the chapter, not only the functions of that name
    "XOR": ["01_representation"],
    "backpropagation": ["02_backprop"],
    "save model": ["library/training/checkpoints", "08_training", "api/training.checkpoints", "api/training"],
    "gelu": ["03_activations", "api/activations"],
}
WORDS = {  # words that readers look for: the place that explains them is among the first three hits
    "universal approximation": ["01_representation", "glossary"],
    "zero_grad": ["02_backprop", "07_optimizers", "08_training", "glossary"],
    "detach": ["02_backprop", "glossary"],
    "learning rate": ["07_optimizers"],
    "dead ReLU": ["03_activations", "glossary"],
    "uncertainty": ["04_outputs", "08_training", "glossary"],
    "temperature": ["04_outputs", "glossary"],
    "bias initialization": ["05_initialization", "glossary"],
    "overfitting": ["08_training", "glossary"],
    "scalar loss": ["02_backprop", "glossary"],
    "kink": ["03_activations", "glossary"],
}


# ---------------------------------------------------------------- a server that gzips, like the one readers get


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    packed: dict[str, bytes] = {}
    sent: list[tuple[str, int]] = []  # each answer: which file, how many bytes

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path = path / "index.html"
        if not path.is_file():
            self.send_error(404)
            return
        body, kind = path.read_bytes(), self.guess_type(str(path))
        pack = re.search(r"text|javascript|json|svg|xml", kind) and "gzip" in self.headers.get("Accept-Encoding", "")
        if pack:
            key = str(path)
            if key not in self.packed:
                self.packed[key] = gzip.compress(body, 6)
            body = self.packed[key]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "max-age=600")
        if pack:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.sent.append((self.path, len(body)))
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


# ---------------------------------------------------------------- what the files alone tell


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.refs, self.meta = set(), [], set()

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get("id"):
            self.ids.add(a["id"])
        if tag == "a" and a.get("name"):
            self.ids.add(a["name"])
        if tag == "meta":
            self.meta.add(a.get("name") or a.get("property"))
        for name in ("href", "src"):
            if a.get(name) and tag in {"a", "link", "img", "script", "iframe"}:
                self.refs.append(a[name])


def read_links(html):
    """Broken links and anchors as (page, link, why), and pages that lack a description or share picture."""
    seen, broken, bare = {}, [], []
    for page, text in html.items():
        seen[page] = p = Links()
        p.feed(text)
        if not {"description", "og:title", "og:image"} <= p.meta and page != "index.html":
            bare.append(page)
    for page, p in seen.items():
        for ref in p.refs:
            parts = urlsplit(ref)
            if parts.scheme or parts.netloc:  # other sites, mailto:, data:
                continue
            target = urlsplit(urljoin("http://h/" + page, ref))
            path = unquote(target.path).lstrip("/") or "index.html"
            if path.endswith("/"):
                path += "index.html"
            if path not in seen and not (FOLDER / path).is_file():
                broken.append((page, ref, "no such file"))
            elif target.fragment and path in seen and unquote(target.fragment) not in seen[path].ids:
                if target.fragment not in {"top", "__codelineno"}:
                    broken.append((page, ref, "no such anchor"))
    return broken, bare


def doubled_backslashes(text):
    r"""Formulas in which `\\name` stands for `\name`: MathJax sets a line break and letters, or an error."""
    for tex in re.findall(r'<(?:span|div) class="math[^>]*>\s*\\[(\[](.*?)\\[)\]]\s*</(?:span|div)>', text, re.S):
        if re.search(r"\\\\[a-zA-Z]", tex) and "begin{" not in tex and "\\\\\n" not in tex:
            yield " ".join(tex.split())[:80]


# ---------------------------------------------------------------- what the browser is asked

SETTLE = """async () => {
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
  if (document.fonts) await document.fonts.ready;
  await new Promise(r => setTimeout(r, 100));
}"""

LOOK = """() => {
  const vis = e => { if (e.closest('details:not([open])') && !e.closest('summary')) return false;
    const r = e.getBoundingClientRect(), s = getComputedStyle(e);
    return r.width > 0 && r.height > 0 && s.visibility !== 'hidden' && s.display !== 'none'; };
  const art = document.querySelector('.bd-article') || document.body;
  const raw = [...document.querySelectorAll('.math, div.math')].filter(e => vis(e) && !e.querySelector('mjx-container'));
  const err = [...document.querySelectorAll('mjx-merror, merror, [data-mjx-error]')];
  const tex = [];
  const walk = document.createTreeWalker(art, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const t = walk.currentNode, p = t.parentElement;
    if (p.closest('pre, code, script, style, mjx-container, .math, mjx-assistive-mml')) continue;
    if (/\\\\\\(|\\\\\\[|\\$\\$|\\\\(frac|sum|mathbf|partial|nabla)/.test(t.data)) tex.push(t.data.trim().slice(0, 80)); }
  const imgs = [...document.images];
  const cap = e => (e.currentSrc || e.src || '').split('/').pop().slice(0, 60);
  const code = [...art.querySelectorAll('.cell_input div.highlight')].filter(vis);
  return {
    math: document.querySelectorAll('mjx-container').length, raw: raw.length, merror: new Set(err.map(e => e.closest('mjx-container') || e)).size,
    error: err.length ? err[0].textContent.slice(0, 60) : '', tex,
    widgets: document.querySelectorAll('.dn-widget').length,
    alive: document.querySelectorAll('.dn-widget[data-ready] .dn-stage svg').length,
    noalt: imgs.filter(i => !i.hasAttribute('alt') || (!i.alt.trim() && i.closest('.bd-article'))).map(cap),
    dead: imgs.filter(i => vis(i) && i.complete && !i.naturalWidth).map(cap),
    code: Math.round(code.reduce((t, e) => t + e.getBoundingClientRect().height, 0)),
    height: Math.round(art.getBoundingClientRect().height),
    theme: document.documentElement.dataset.theme || '',
  };
}"""

OVERFLOW = """() => {
  const W = document.documentElement.clientWidth, wide = document.documentElement.scrollWidth, out = [];
  const name = e => { let p = e, parts = []; for (let i = 0; i < 3 && p && p !== document.body; i++, p = p.parentElement)
      parts.unshift(p.tagName.toLowerCase() + (p.id ? '#' + p.id : '') + [...p.classList].slice(0, 2).map(c => '.' + c).join('')); return parts.join(' > '); };
  const right = e => e.getBoundingClientRect().right;
  if (wide > W + 1) for (const e of document.querySelectorAll('.bd-main *, .bd-header *, footer *'))
    if (right(e) > W + 1 && right(e) < wide + 2 && ![...e.children].some(c => right(c) > W + 1) && !e.closest('mjx-container, pre')) out.push(e);
  out.sort((a, b) => right(b) - right(a));
  const scroll = [...document.querySelectorAll('.bd-article *')].filter(e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 2
      && /auto|scroll/.test(getComputedStyle(e).overflowX));
  return { W, wide, out: out.slice(0, 3).map(name), scrollers: scroll.length };
}"""

# axe takes minutes over thousands of boxes of one kind: formulas leave (screen readers get MathJax's own text of them),
# and of the code the first twelve pieces stay, each with its first 200 words.
THIN = """document.querySelectorAll('mjx-container').forEach(e => e.remove());
[...document.querySelectorAll('.bd-article div.highlight pre')].forEach((e, i) => { if (i > 11) e.textContent = 'code';
  else [...e.querySelectorAll('*')].slice(200).forEach(c => c.remove()); });
"""

AXE = """async (rules) => { const r = await axe.run(document, {resultTypes: ['violations'], runOnly: rules || ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']});
  return r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical').map(v => ({id: v.id, impact: v.impact,
    n: v.nodes.length, first: v.nodes[0].target.join(' '), html: v.nodes[0].html.slice(0, 160)})); }"""

CUT = """() => { const a = [...document.querySelectorAll('.bd-article div.highlight pre')].filter(e => e.clientWidth > 0
    && !e.closest('details:not([open])'));
  return {of: a.length, n: a.filter(e => e.scrollWidth > e.clientWidth + 2).length}; }"""

PAINT = """() => { const p = performance.getEntriesByType('paint').find(e => e.name === 'first-contentful-paint');
  return {fcp: p ? Math.round(p.startTime) : 0, cls: +(window.__cls || 0).toFixed(3)}; }"""

WATCH = """window.__cls = 0;
new PerformanceObserver(l => { for (const e of l.getEntries()) if (!e.hadRecentInput) window.__cls += e.value; })
  .observe({type: 'layout-shift', buffered: true});"""

EARLY = """{ const ask = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = f => { const asked = performance.now(); return ask(t => f(Math.min(t, asked - 20))); }; }"""

SCROLL = """async () => { for (let y = 0; y < document.body.scrollHeight; y += 2500) { scrollTo(0, y);
  await new Promise(r => setTimeout(r, 10)); } scrollTo(0, 0); }"""


class Visit:
    """A browser context with its theme and width; keeps what goes wrong since the last `open`."""

    def __init__(self, browser, home, theme="light", phone=False, early=False):
        self.home = home
        extra = {"viewport": DESKTOP}
        if phone:
            extra = {"viewport": PHONE, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
        self.context = browser.new_context(color_scheme=theme, **extra)
        set_theme = (
            f"try {{ localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}'); }} catch {{}}\n"
        )
        self.context.add_init_script(set_theme + WATCH + (EARLY if early else ""))
        self.context.route(lambda url: not url.startswith(home) and not url.startswith(("data:", "blob:")), self._block)
        self.page = page = self.context.new_page()
        self.clear()
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("response", lambda r: self.failed.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("requestfailed", lambda r: self.failed.append(f"failed {r.url}") if r.url.startswith(home) else None)
        cdp = self.context.new_cdp_session(page)
        cdp.send("Network.enable")
        cdp.on("Network.requestWillBeSent", self._asked)
        cdp.on("Network.loadingFinished", self._done)

    def clear(self):
        self.errors, self.failed, self.foreign, self.bytes, self.requests, self.inside = [], [], [], 0, 0, set()

    def _block(self, route):
        self.foreign.append(route.request.url)
        route.abort()

    def _asked(self, event):
        if event["request"]["url"].startswith("data:"):  # stands in the page or its style sheet: asks nobody
            self.inside.add(event["requestId"])

    def _done(self, event):
        self.bytes += event["encodedDataLength"]
        self.requests += event["requestId"] not in self.inside

    def open(self, page):
        self.clear()
        self.page.goto(self.home + page, wait_until="load", timeout=180000)
        if page == "index.html":  # it forwards to the landing page
            self.page.wait_for_url("**/nbs/index.html", timeout=15000, wait_until="load")
        self.page.evaluate(SETTLE)

    def wrong(self):
        return {"errors": self.errors[:], "failed": self.failed[:], "foreign": self.foreign[:]}


def shoot(page, stem, height=1500):
    """The page in pieces of one screenful: a picture of a whole chapter is taller than Chromium draws."""
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": height})
    for i, y in enumerate(range(0, page.evaluate("document.documentElement.scrollHeight"), height - 40)):
        page.evaluate(f"scrollTo(0, {y})")
        page.wait_for_timeout(60)
        page.screenshot(path=f"{stem}.{i:02}.png")
    page.set_viewport_size(size)


class Worker:
    """One browser: a fresh context for each desktop view (empty cache), lasting ones for phone and dark theme."""

    def __init__(self, browser, home, args, axe):
        self.browser, self.home, self.args, self.axe, self.lasting = browser, home, args, axe, {}

    def visit(self, view):
        if view == "light":
            return Visit(self.browser, self.home)
        if view not in self.lasting:
            self.lasting[view] = Visit(self.browser, self.home, "dark" if view == "dark" else "light", view == "phone")
        return self.lasting[view]

    def page(self, page, begun):
        out = {"page": page}
        for view in ("light", "phone") if self.args.quick else ("light", "phone", "dark"):
            v = self.visit(view)
            try:
                v.open(page)
                r = v.page.evaluate(LOOK)
                r.update(v.page.evaluate(PAINT), bytes=v.bytes, requests=v.requests)
                if view == "phone":
                    r["overflow"] = v.page.evaluate(OVERFLOW)
                v.page.evaluate(SCROLL)  # pictures loaded lazily come
                if self.args.shots:
                    shoot(v.page, self.args.shots / f"{page.replace('/', '_').removesuffix('.html')}.{view}")
                if view == "light":
                    r["cut"] = v.page.evaluate(CUT)
                    v.page.emulate_media(media="print")
                    v.page.set_viewport_size(A4)
                    r["print"] = v.page.evaluate(CUT)
                    v.page.emulate_media(media="screen")
                    v.page.set_viewport_size(DESKTOP)
                if self.axe and view != "phone":
                    v.page.evaluate(THIN + self.axe)
                    r["axe"] = v.page.evaluate(AXE, ["color-contrast"] if view == "dark" else None)
                r.update(v.wrong())
            except Exception as error:
                r = {"crash": str(error)[:300]}
            out[view] = r
            if view == "light":
                v.context.close()
        out["seconds"] = round(time.time() - begun, 1)
        return out

    def search(self, _, begun):
        out = {}
        v = Visit(self.browser, self.home)
        ready = """() => { const p = document.querySelector('#search-results p.search-summary, #search-results > p');
            return p && /found|did not match|matching/i.test(p.innerText) && !/Searching/.test(p.innerText) }"""
        asked = [(query, wanted, 5) for query, wanted in QUERIES.items()]
        asked += [(query, wanted, 3) for query, wanted in WORDS.items()]
        for query, wanted, first in asked:
            v.page.goto(self.home + "search.html?q=" + query.replace(" ", "+"), wait_until="load", timeout=180000)
            try:
                v.page.wait_for_function(ready, timeout=15000)
            except Exception:  # counted below: no hits
                pass
            v.page.wait_for_timeout(200)
            hits = v.page.eval_on_selector_all(
                "#search-results ul.search > li > a", "l => l.map(a => a.getAttribute('href'))"
            )
            out[query] = {"n": len(hits), "ok": any(w in h for w in wanted for h in hits[:first]), "top": hits[:5]}
        v.context.close()
        return {"search": out, "errors": v.errors, "seconds": round(time.time() - begun, 1)}

    def figures(self, page, begun):
        """Every control of every figure of a page, by mouse, then by keyboard."""
        out, gone = [], [0]
        v = Visit(self.browser, self.home, early=True)
        v.open(page)

        def stay(route):  # a key that moves a figure must not turn the page: 204 keeps the page and tells
            gone[0] += 1
            route.fulfill(status=204)

        v.page.route(lambda url: url.split("#")[0].endswith(".html"), stay)
        for w in v.page.query_selector_all(".dn-widget"):
            out.append(move_everything(v, w, gone) | {"page": page})
        block = v.page.query_selector(".bd-article div.highlight pre[tabindex]")
        if block and block.is_visible():  # a code block is scrolled by the arrow keys: they must not turn the page
            block.focus()
            v.page.keyboard.press("ArrowRight")
            v.page.wait_for_timeout(150)
            if gone[0]:
                out.append(
                    {
                        "page": page,
                        "widget": "a focused code block",
                        "ready": True,
                        "dead": [],
                        "errors": [],
                        "lost": ["arrow key"],
                    }
                )
        v.context.close()
        return {"figures": out, "seconds": round(time.time() - begun, 1)}


# ---------------------------------------------------------------- interactive figures

STATE = """e => e.querySelector('.dn-stage').innerHTML.replace(/<p class="dn-heard".*?<\\/p>/, '')"""
LABEL = """e => e.getAttribute('aria-label') || (e.labels && e.labels[0] ? e.labels[0].innerText : e.textContent).trim().split('\\n')[0] || '?'"""
CONTROLS = {
    "slider": "input[type=range]",
    "handle": "svg [role=slider]",
    "select": "select",
    "button": "button",
    "check": "input[type=checkbox]",
}


def move(v, w, c, kind, how):
    """Move one control; did the figure or the control's value change?"""
    c.evaluate("e => e.scrollIntoView({block: 'center'})")
    before, value = w.evaluate(STATE), c.evaluate("e => e.value")
    box = c.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    if kind == "select":
        c.focus()
        n, k = c.evaluate("e => [e.options.length, e.selectedIndex]")
        if how == "mouse":
            c.select_option(index=(k + 1) % n)
        else:
            v.page.keyboard.press("ArrowDown" if k + 1 < n else "ArrowUp")
    elif how == "mouse" and kind == "handle":
        v.page.mouse.move(x, y)
        v.page.mouse.down()
        v.page.mouse.move(x + 25, y - 25, steps=4)
        v.page.mouse.up()
    elif how == "mouse" and kind == "slider":
        far = c.evaluate("e => (e.value - e.min) / (e.max - e.min) < 0.5 ? 0.8 : 0.2")  # not on the thumb
        v.page.mouse.click(box["x"] + far * box["width"], y)
    elif how == "mouse":
        c.click()
    else:
        c.focus()
        v.page.keyboard.press("Space" if kind in {"button", "check"} else "ArrowRight")
        if kind in {"slider", "handle"}:
            v.page.wait_for_timeout(40)
            if w.evaluate(STATE) == before and c.evaluate("e => e.value") == value:  # at its end already
                v.page.keyboard.press("ArrowLeft")
    v.page.wait_for_timeout(300 if kind == "button" else 70)
    return w.evaluate(STATE) != before or c.evaluate("e => e.value") != value


def move_everything(v, w, gone):
    r = {
        "widget": w.get_attribute("data-widget"),
        "ready": w.get_attribute("data-ready") == "1",
        "dead": [],
        "lost": [],
    }
    v.errors.clear()
    if not r["ready"]:
        return r | {"errors": []}
    w.scroll_into_view_if_needed()
    idle = []
    for kind, selector in CONTROLS.items():
        for c in w.query_selector_all(selector):
            for how in ("mouse", "key"):
                if not c.is_visible() or not c.is_enabled():
                    continue
                changed = move(v, w, c, kind, how)
                label = f"{kind} '{c.evaluate(LABEL)}' by {how}"
                if gone[0]:
                    r["lost"].append(label)
                    gone[0] = 0
                if not changed:
                    (idle if kind == "button" else r["dead"]).append((label, c))
    r["dead"] = [label for label, _ in r["dead"]]
    for label, c in idle:  # it may have had nothing to do ("reset"): once more, after each of the others
        for other in w.query_selector_all("button"):
            if not other.is_visible() or not other.is_enabled() or other.evaluate("(e, c) => e === c", c):
                continue
            move(v, w, other, "button", "mouse")
            if c.is_enabled() and move(v, w, c, "button", "mouse"):
                break
        else:
            r["dead"].append(label)
    return r | {"errors": v.errors[:]}


# ---------------------------------------------------------------- the verdict


class Verdict:
    """Violations of one kind on many pages are one line."""

    def __init__(self):
        self.found = {}

    def add(self, kind, page, detail="", n=1):
        if n:
            self.found.setdefault(kind, []).append((page, n, detail))

    def show(self):
        for kind, places in sorted(self.found.items(), key=lambda p: -len(p[1])):
            pages, total = list(dict.fromkeys(p for p, _, _ in places)), sum(n for _, n, _ in places)
            where = (
                pages[0]
                if len(pages) == 1
                else f"{len(pages)} pages: {', '.join(pages[:6])}{', …' if len(pages) > 6 else ''}"
            )
            details = list(dict.fromkeys(d for _, _, d in places if d))
            print(f"  {kind} ×{total} ({where})" + (f": {details[0]}" if details else ""))
            for d in details[1:5]:
                print(f"      {d}")
            if len(details) > 5:
                print(f"      … {len(details) - 5} more (--json holds all)")


HEAD = (
    f"{'page':34} {'cons':>4} {'fail':>4} {'fore':>4} {'math':>4} {'raw':>3} {'ovfl':>4} {'scrl':>4} {'cut':>6} {'prnt':>4} {'code':>4} "
    f"{'alt':>3} {'axeL':>4} {'axeD':>4} {'kB':>5} {'req':>3} {'fcp':>5} {'cls':>5}"
)


def judge_page(r, verdict, args):
    page, views = r["page"], [r[k] for k in ("light", "phone", "dark") if k in r]
    for x in views:
        if "crash" in x:
            verdict.add("page could not be judged", page, x["crash"])
            print(f"{page[:34]:34} {x['crash'][:120]}")
            return
    light, phone, dark = r["light"], r["phone"], r.get("dark")
    total = {k: sum(len(x[k]) for x in views) for k in ("errors", "failed", "foreign")}
    wide = phone["overflow"]["wide"] > phone["overflow"]["W"] + 1
    axe = [("-" if x is None or "axe" not in x else sum(a["n"] for a in x["axe"])) for x in (light, dark)]
    raw = light["raw"] + light["merror"] + len(light["tex"])
    alt = light["noalt"] + light["dead"] + (dark["dead"] if dark else [])
    cut, prnt = light["cut"], light["print"]
    print(
        f"{page[:34]:34} {total['errors']:4} {total['failed']:4} {total['foreign']:4} {light['math']:4} {raw:3} {'yes' if wide else '':>4} "
        f"{phone['overflow']['scrollers']:4} {cut['n']:3}/{cut['of']:<2} {prnt['n']:4} {100 * light['code'] // max(1, light['height']):4} "
        f"{len(alt):3} {axe[0]:>4} {axe[1]:>4} {light['bytes'] / 1000:5.0f} {light['requests']:3} {light['fcp']:5} {light['cls']:5}  {r['seconds']:.0f} s"
    )
    for what, name in (
        ("errors", "console error"),
        ("failed", "failed request"),
        ("foreign", "request to another host"),
    ):
        for x in views:
            for t in x[what]:
                verdict.add(name, page, t[:160])
    verdict.add(
        "formula not set, set as an error, or left as TeX", page, light["error"] or "".join(light["tex"][:1]), raw
    )
    if wide:
        verdict.add(
            "wider than the phone",
            page,
            f"{page} {phone['overflow']['wide']} px: {', '.join(phone['overflow']['out'][:1])}",
        )
    for t in alt:
        verdict.add("picture without alt text, or that does not load", page, t)
    verdict.add(
        f"shown code cut at the right at {DESKTOP['width']} px",
        page,
        f"{page} {cut['n']} of {cut['of']}" if cut["n"] else "",
        cut["n"],
    )
    verdict.add("shown code cut on paper (A4)", page, n=prnt["n"])
    for theme, x in (("light", light), ("dark", dark)):
        if x and x["theme"] and x["theme"] != theme:
            verdict.add("the theme asked for is not the theme shown", page, theme)
        for a in (x or {}).get("axe", []):
            verdict.add(f"axe {a['impact']} {a['id']} ({theme})", page, a["first"][:150], a["n"])
    if light["widgets"] > light["alive"]:
        verdict.add("interactive figure did not start", page, n=light["widgets"] - light["alive"])
    if light["bytes"] > 1000 * args.max_kb:
        verdict.add(f"over {args.max_kb} kB over the wire", page, f"{page} {light['bytes'] / 1000:.0f} kB")
    for x in views:
        if x["cls"] > args.max_cls:
            verdict.add(f"the layout shifts by more than {args.max_cls}", page, f"{page} {x['cls']}")
    if args.max_fcp and light["fcp"] > args.max_fcp:
        verdict.add(f"first view after {args.max_fcp} ms", page, f"{light['fcp']} ms")


def judge_figures(r, verdict):
    for f in r["figures"]:
        name = f"{f['widget']} ({f['page']})"
        print(
            f"figure {name}: ready={f['ready']} dead={len(f['dead'])} page turned={len(f['lost'])} errors={len(f['errors'])}  {r['seconds']:.0f} s"
        )
        for t in f["lost"]:
            verdict.add("an arrow key meant for a figure or a code block turns the page", f["page"], f"{name}: {t}")
        if f["dead"] and f["errors"]:
            verdict.add(
                "a figure is dead after it has thrown",
                f["page"],
                f"{name}: {len(f['dead'])} controls, first {f['dead'][0]}",
            )
        else:
            for t in f["dead"]:
                verdict.add("a control does nothing", f["page"], f"{name}: {t}")
        for t in f["errors"]:
            verdict.add("a figure throws", f["page"], f"{name}: {t.splitlines()[0][:140]}")


def choose(every, args):
    if args.quick:
        chapters = [p for p in every if re.match(r"nbs/\d", p)]
        picked = [next((p for p in every if p.startswith(q)), None) for q in QUICK]
        spare = iter(p for p in chapters if p not in picked)
        return list(dict.fromkeys(p or next(spare, every[0]) for p in picked))
    return [p for p in every if (not args.only or re.search(args.only, p)) and not re.search(args.skip, p)]


def read_axe(path):
    if path is None:
        try:
            import axe_playwright_python
        except ImportError:
            print("axe-core is missing: accessibility is not counted")
            return None
        path = Path(axe_playwright_python.__file__).with_name("axe.min.js")
    if path.name.endswith((".tgz", ".tar.gz")):
        with tarfile.open(path) as tar:
            return tar.extractfile("package/axe.min.js").read().decode()
    return path.read_text()


def main():
    global FOLDER
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the built book, _build/html")
    parser.add_argument(
        "--quick", action="store_true", help="front page, three chapters, one API page; light and phone"
    )
    parser.add_argument("--axe", type=Path, help="axe.min.js, or axe-core's .tgz from npm (default: the one installed)")
    parser.add_argument(
        "--chromium",
        default=os.environ.get("DEEPNOTES_CHROMIUM") or shutil.which("chromium"),
        help="the browser (default: the one on the PATH)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="browsers side by side (default 2)")
    parser.add_argument("--json", type=Path, help="write all that was counted to this file")
    parser.add_argument("--shots", type=Path, help="write screenshots of every page and view to this folder (slow)")
    parser.add_argument("--only", help="a regular expression for the pages to open (no searches then)")
    parser.add_argument("--skip", default="^$", help="a regular expression for pages to leave out")
    parser.add_argument("--no-figures", action="store_true")
    parser.add_argument("--max-kb", type=int, default=1300, help="most kB of a page over the wire (default 1300)")
    parser.add_argument("--max-cls", type=float, default=0.05, help="largest layout shift (default 0.05)")
    parser.add_argument("--max-fcp", type=int, default=0, help="latest first view in ms (default: not judged)")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("Playwright is missing: pip install playwright", file=sys.stderr)
        return 2
    FOLDER = args.folder.resolve()
    # 404.html counts its addresses from the root of the published site, which is not served here
    outside = re.compile(r"^((_static|_sources|_images|_downloads|_sphinx_design_static)/|404\.html$)")
    every = sorted(p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*.html"))
    every = sorted(
        (p for p in every if not outside.match(p)), key=lambda p: (p.startswith("_modules"), p.startswith("nbs/api"), p)
    )
    if not every:
        print(f"{args.folder}: no built book here", file=sys.stderr)
        return 2
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
    begun, axe, pages, verdict = time.time(), read_axe(args.axe), choose(every, args), Verdict()
    html = {p: (FOLDER / p).read_text(errors="replace") for p in every}
    broken, bare = read_links(html)
    for page, ref, why in broken:
        verdict.add("broken link", page, f"{ref}: {why}")
    for page in every:
        for tex in doubled_backslashes(html[page]):
            verdict.add("doubled backslash in a formula", page, f"{page}: {tex}")
        if page in bare and page.startswith("nbs/"):
            verdict.add("no description, og:title or og:image", page)

    home, tasks, results, failures = serve(FOLDER), queue.SimpleQueue(), queue.SimpleQueue(), []
    work = [("page", p) for p in pages]
    if not args.no_figures:
        work += [("figures", p) for p in pages if 'data-widget="' in html[p] and p.startswith("nbs/")]
    if not args.only and not args.quick:
        work += [("search", "search.html")]
    work.sort(key=lambda t: -len(html.get(t[1], "")))  # the long ones first, so that no browser ends alone
    for task in work:
        tasks.put(task)

    def run():
        try:
            with sync_playwright() as pw:
                browser = pw.chromium.launch(executable_path=args.chromium, args=FLAGS)
                worker = Worker(browser, home, args, axe)
                while True:
                    try:
                        what, page = tasks.get_nowait()
                    except queue.Empty:
                        break
                    try:
                        results.put((what, getattr(worker, what)(page, time.time())))
                    except Exception as error:
                        results.put(("crash", {"page": page, "why": f"{what}: {str(error)[:200]}"}))
                browser.close()
        except Exception as error:
            failures.append(str(error))
        results.put(("end", None))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(max(1, args.jobs))]
    for t in threads:
        t.start()
    print(HEAD)
    ended, done, report = 0, 0, {"broken": broken, "bare": bare, "pages": [], "figures": [], "search": {}}
    while ended < len(threads):
        what, r = results.get()
        done += what != "end"
        if what == "end":
            ended += 1
        elif what == "crash":
            verdict.add("page could not be judged", r["page"], r["why"])
        elif what == "page":
            report["pages"].append(r)
            judge_page(r, verdict, args)
        elif what == "figures":
            report["figures"] += r["figures"]
            judge_figures(r, verdict)
        else:
            report["search"] = r["search"]
            for query, hit in r["search"].items():
                print(f"search {query!r}: {hit['n']} hits, {'ok' if hit['ok'] else 'NOT FOUND'} {hit['top'][:3]}")
                if not hit["ok"]:
                    verdict.add("none of the first hits is where it belongs", "search.html", repr(query))
            for t in r["errors"]:
                verdict.add("console error", "search.html", t[:160])
    if done < len(work):
        print(
            f"{len(work) - done} of {len(work)} tasks did not run. {failures[0].splitlines()[0] if failures else ''}",
            file=sys.stderr,
        )
        return 2
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    print(
        f"\n{len(pages)} of {len(every)} pages opened in {time.time() - begun:.0f} s; {len(verdict.found)} kinds of violation"
    )
    verdict.show()
    return 1 if verdict.found else 0


if __name__ == "__main__":
    sys.exit(main())
