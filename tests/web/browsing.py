"""What the tests in a real browser share: Chromium, a server for the built site, and a reader with a page open.

Nothing here waits for a time: each step waits for what the page says, up to a limit that a slow machine does not reach.
"""

import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from audit import FLAGS, serve
from playwright import sync_api as playwright  # `make test-web` brings it; a run without it is no run

ROOT = Path(__file__).resolve().parents[2]
HTML = Path(os.environ.get("DEEPNOTES_HTML") or ROOT / "_build" / "html")
SITE = Path(os.environ.get("DEEPNOTES_SITE") or ROOT / "_build" / "web")
LIMIT = int(os.environ.get("DEEPNOTES_LIMIT") or 600_000)  # milliseconds; a busy machine needs minutes to start Python


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        path = os.environ.get("DEEPNOTES_CHROMIUM") or shutil.which("chromium")
        browser = engine.chromium.launch(executable_path=path, args=FLAGS, timeout=LIMIT)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def book():
    """The address of the built book."""
    return serve(HTML)


@pytest.fixture(scope="module")
def site():
    """The address of the full site."""
    return serve(SITE)


class Reader:
    """A reader with one page of the full site open: what was asked of the network, and what the page's scripts threw."""

    def __init__(self, browser, home, page):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(LIMIT)
        self.asked, self.thrown, self.home = [], [], home
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.thrown.append(str(error)))
        self.open(page)

    def open(self, page):
        """Open a page, and wait for its buttons; the first may be in a fold."""
        self.page.goto(f"{self.home}nbs/{page}.html")
        self.page.locator(".dn-tools").first.wait_for(state="attached")
        self.data = json.loads((SITE / "live" / "nbs" / f"{page}.json").read_text(encoding="utf-8"))

    def reload(self):
        self.page.reload()
        self.page.locator(".dn-tools").first.wait_for(state="attached")

    def cell(self, id):
        return self.page.locator(f".dn-c-{id}").first

    def first(self):
        """The first cell that a reader sees open."""
        return self.cell(self.plain()[0]["id"])

    def plain(self):
        """Cells that a reader may run one after the other, in order: exercises are for the reader."""
        return [cell for cell in self.data["cells"] if cell["kind"] == "shown" and "why" not in cell and "part" not in cell]

    def unfold(self, cell):
        """Open whatever a cell's buttons are folded into; what is folded has no role, and cannot be found by it."""
        opened = "for (let e = box.querySelector('.dn-tools'); e; e = e.parentElement) if (e.matches('details')) e.open = true"
        cell.evaluate(f"box => {{ {opened} }}")

    def press(self, cell, name):
        """Press a button of a cell."""
        self.unfold(cell)
        cell.locator(".dn-tools").get_by_role("button", name=re.compile(re.escape(name))).first.dispatch_event("click")

    def write(self, cell, code):
        self.unfold(cell)
        self.press(cell, "Edit" if cell.get_by_role("button", name="Edit").count() else "Write")
        cell.get_by_label("Code of this cell").fill(code)

    def run(self, cell, code):
        self.write(cell, code)
        self.press(cell, "Run")
        return self

    def says(self, pattern):
        """Wait until the bar says this, and give it."""
        line = self.page.locator(".dn-python > span", has_text=re.compile(pattern))
        line.wait_for()
        return line.inner_text()

    def ends(self, pattern="^Ready"):
        """Wait until the bar says how a run ended, whichever way, and hold that against the pattern: what else happened fails at once."""
        said = self.says(r"^Ready|^Solved|^Not yet|^Stopped|^A cell raised|could not be fetched|broke down|cannot run")
        assert re.search(pattern, said), (said, self.page.locator(".dn-error").all_inner_texts())
        return said

    def seconds(self, cell, code=None):
        """Run a cell to its end, and give the time that the page says it took."""
        if code is not None:
            self.write(cell, code)
        self.press(cell, "Run")
        return float(re.search(r"([\d.]+) s\.", self.ends())[1])

    def out(self, cell):
        return cell.locator(".dn-out")

    def printed(self, cell):
        """What a reader sees below a cell."""
        self.out(cell).wait_for()
        return self.out(cell).inner_text()


@pytest.fixture
def read(browser, site):
    """A function that opens a page of the full site; the test fails if another host was asked, or a script threw."""
    readers = []

    def open_page(page):
        readers.append(Reader(browser, site, page))
        return readers[-1]

    yield open_page
    for reader in readers:
        reader.context.close()
    host = urlsplit(site).netloc
    asked = [urlsplit(url) for reader in readers for url in reader.asked]
    foreign = [url.geturl() for url in asked if url.scheme in ("http", "https") and url.netloc != host]
    thrown = [error for reader in readers for error in reader.thrown]
    assert not foreign, foreign
    assert not thrown, thrown
