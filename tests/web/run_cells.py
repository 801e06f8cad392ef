"""Cells that run in the page, in a real browser, on the site that `make web` made: `make test-web` runs this.

Nothing here waits for a time: each step waits for what the page says, up to a limit that a slow machine does not reach. Every
request to another host would fail the test, and so would one for Python's files before the first click.
"""

import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from audit import FLAGS, serve

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `web`: make test-web")
SITE = Path(os.environ.get("DEEPNOTES_SITE") or Path(__file__).resolve().parents[2] / "_build" / "web")
LIMIT = int(os.environ.get("DEEPNOTES_LIMIT") or 600_000)  # milliseconds; a busy machine needs minutes to start Python
if not (SITE / "live").is_dir():
    pytest.skip("no site whose code runs: make web", allow_module_level=True)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        path = os.environ.get("DEEPNOTES_CHROMIUM") or shutil.which("chromium")
        browser = engine.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def home():
    return serve(SITE)


class Reader:
    """A reader with one page open: what was asked of the network, and what the page's scripts threw."""

    def __init__(self, browser, home, page):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(LIMIT)
        self.asked, self.thrown, self.home = [], [], home
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.thrown.append(str(error)))
        self.page.goto(f"{home}nbs/{page}.html")
        self.page.locator(".dn-tools").first.wait_for()
        self.data = json.loads((SITE / "live" / "nbs" / f"{page}.json").read_text())

    def cell(self, id):
        return self.page.locator(f".dn-c-{id}").first

    def press(self, cell, name):
        """Press a button of a cell, also in a fold, as the keyboard would; a button in a fold is unfolded first."""
        cell.evaluate("box => { for (let e = box; e; e = e.parentElement.closest('details')) { "
                      "const fold = e.matches('details') ? e : e.querySelector('details.dn-fold'); if (fold) fold.open = true; "
                      "if (!e.parentElement) break; } }")
        cell.get_by_role("button", name=re.compile(re.escape(name))).first.dispatch_event("click")

    def write(self, cell, code):
        self.press(cell, "Edit") if cell.get_by_role("button", name="Edit").count() else self.press(cell, "Write")
        area = cell.get_by_label("Code of this cell")
        area.fill(code)

    def says(self, pattern):
        """Wait until the bar says this, and give it."""
        line = self.page.locator(".dn-python > span", has_text=re.compile(pattern))
        line.wait_for()
        return line.inner_text()

    def run(self, cell, code):
        self.write(cell, code)
        self.press(cell, "Run")
        return self

    def out(self, cell):
        return cell.locator(".dn-out")


@pytest.fixture
def read(browser, home):
    readers = []

    def open_page(page):
        readers.append(Reader(browser, home, page))
        return readers[-1]

    yield open_page
    for reader in readers:
        reader.context.close()
    host = urlsplit(home).netloc
    asked = [urlsplit(url) for reader in readers for url in reader.asked]
    assert {url.netloc for url in asked if url.scheme in ("http", "https")} <= {host}
    assert [error for reader in readers for error in reader.thrown] == []


def plain_cells(reader):
    """Cells that a reader sees open, in order."""
    return [cell for cell in reader.data["cells"] if cell["kind"] == "shown" and "why" not in cell and "part" not in cell]


def test_nothing_of_python_is_fetched_before_the_first_click(read):
    reader = read("04_outputs")
    reader.page.wait_for_load_state("networkidle")
    names = [urlsplit(url).path.rpartition("/live/")[2] for url in reader.asked if "/live/" in url]
    assert sorted(names) == ["editor.mjs", "page.css", "page.mjs", "session.mjs"]


def test_a_cell_prints_draws_raises_loops_and_is_stopped(read):
    reader = read("04_outputs")
    cell = reader.cell(plain_cells(reader)[0]["id"])
    reader.run(cell, "import numpy as np\nprint('two', 1 + 1)\nnp.arange(3)").says("^Ready")
    assert reader.out(cell).inner_text().split() == ["two", "2", "array([0,", "1,", "2])"]

    reader.run(cell, "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.title('mine'); None").says("^Ready")
    assert reader.out(cell).locator("img.dn-light, img.dn-dark").count() == 2
    assert reader.out(cell).locator("img.dn-light").evaluate("image => image.decode().then(() => image.naturalWidth > 100)")

    reader.run(cell, "def deep(x):\n    return 1 / x\n\ndeep(0)").says("ZeroDivisionError")
    trace = reader.out(cell).locator(".dn-error").inner_text()
    assert trace.rstrip().endswith("ZeroDivisionError: division by zero") and "return 1 / x" in trace and "_pyodide" not in trace

    reader.run(cell, "print('in the loop')\nwhile True:\n    pass")
    reader.out(cell).get_by_text("in the loop").wait_for()
    reader.page.get_by_role("button", name="Stop").click()
    assert "what you typed is kept" in reader.says("^Stopped")
    assert cell.get_by_label("Code of this cell").input_value().endswith("pass")
    reader.run(cell, "print('again')").says("^Ready")
    assert reader.out(cell).inner_text().strip() == "again"


def test_what_was_typed_outlives_a_reload_and_is_downloaded_as_a_notebook(read):
    reader = read("04_outputs")
    cell = reader.cell(plain_cells(reader)[0]["id"])
    reader.write(cell, "mine = 'typed here'")
    reader.page.reload()
    assert cell.get_by_label("Code of this cell").input_value() == "mine = 'typed here'"
    reader.page.evaluate("document.querySelector('.dn-python').hidden = false")
    with reader.page.expect_download() as waiting:
        reader.page.get_by_role("button", name="Download as notebook").click()
    notebook = json.loads(Path(waiting.value.path()).read_text())
    assert notebook["cells"][-1]["source"] == "mine = 'typed here'" and notebook["nbformat"] == 4
    reader.press(cell, "Back to the book's")
    reader.page.reload()
    reader.page.locator(".dn-tools").first.wait_for()
    assert cell.get_by_label("Code of this cell").count() == 0


def test_an_exercise_is_answered_wrongly_then_rightly_and_is_listed(read):
    reader = read("04_outputs")
    exercise = reader.data["exercises"]["ex-04-hand"]
    cell = reader.cell(exercise["answer"])
    reader.press(cell, "Check")
    reader.says("^Not yet")
    assert reader.out(cell).locator(".dn-wrong").count() == 1
    reader.write(cell, "my_loss, my_gradient = np.log(4), [-0.75, 0.75]")
    reader.press(cell, "Check")
    reader.says("^Solved")
    assert reader.out(cell).locator(".dn-right").count() == 1
    reader.page.goto(reader.home + "nbs/exercises.html")
    reader.page.locator(".dn-count", has_text="You have solved 1 of").wait_for()
    assert reader.page.locator("tr.dn-solved").count() == 1


def test_without_the_network_one_sentence_says_so_and_the_next_try_works(read):
    reader = read("04_outputs")
    cell = reader.cell(plain_cells(reader)[0]["id"])
    reader.write(cell, "print('here')")
    reader.context.route("**/pyodide.asm.wasm", lambda route: route.abort())
    reader.press(cell, "Run")
    assert "nothing you typed is lost" in reader.says("could not be fetched")
    reader.context.unroute("**/pyodide.asm.wasm")
    reader.press(cell, "Run")
    reader.says("^Ready")
    assert reader.out(cell).inner_text().strip() == "here"


def test_a_browser_without_webassembly_says_so(browser, home):
    context = browser.new_context()
    context.add_init_script("delete globalThis.WebAssembly")
    page = context.new_page()
    page.goto(home + "nbs/04_outputs.html")
    page.locator(".dn-tools button", has_text="Run").first.dispatch_event("click")
    page.locator(".dn-problem", has_text="cannot run WebAssembly").wait_for()
    context.close()


@pytest.mark.parametrize("page", os.environ.get("DEEPNOTES_PAGES", "index 02_backprop 04_outputs").split())
def test_all_cells_of_a_page_run_to_the_end(read, page):
    reader = read(page)
    last = plain_cells(reader)[-1]
    reader.press(reader.cell(last["id"]), "Run all above")
    assert reader.says("^Ready|raised|ended|fetched$").startswith("Ready"), reader.page.locator(".dn-error").all_inner_texts()
    assert reader.page.locator(".dn-error").all_inner_texts() == []
