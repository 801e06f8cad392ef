"""Cells that run in the page, in a real browser, on the site that `make web` made: `make test-web` runs this.

Every request to another host would fail the test, and so would one for Python's files before the first click.
"""

import json
import os
import re
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from audit import Handler
from browsing import LIMIT, ROOT, SITE, browser, read, site  # noqa: F401

if not (SITE / "live").is_dir():
    pytest.skip("no site whose code runs: make web", allow_module_level=True)
PAGES = os.environ.get("DEEPNOTES_PAGES", "index 02_backprop 04_outputs").split()


def test_nothing_of_python_is_fetched_before_the_first_click(read):  # noqa: F811
    reader = read("04_outputs")
    reader.page.wait_for_load_state("networkidle")
    names = [urlsplit(url).path.rpartition("/live/")[2] for url in reader.asked if "/live/" in url]
    assert sorted(names) == ["editor.mjs", "page.css", "page.mjs", "session.mjs"]


def test_a_cell_prints_raises_draws_loops_is_stopped_and_keeps_what_was_typed(read):  # noqa: F811
    reader = read("04_outputs")
    cell = reader.first()
    reader.run(cell, "import numpy as np\nprint('two', 1 + 1)\nnp.arange(3)").ends()
    assert reader.printed(cell).split() == ["two", "2", "array([0,", "1,", "2])"]

    reader.run(cell, "def deep(x):\n    return 1 / x\n\ndeep(0)").ends("raised ZeroDivisionError")
    trace = reader.printed(cell)
    assert trace.rstrip().endswith("ZeroDivisionError: division by zero") and "return 1 / x" in trace and "_pyodide" not in trace

    reader.run(cell, "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.title('mine'); None").ends()
    assert reader.out(cell).locator("img.dn-light, img.dn-dark").count() == 2
    light = reader.out(cell).locator("img.dn-light")
    assert light.is_visible() and light.evaluate("image => image.decode().then(() => image.naturalWidth > 100)")

    reader.run(cell, "print('in the loop')\nwhile True:\n    pass")
    reader.out(cell).get_by_text("in the loop").wait_for()
    reader.page.get_by_role("button", name="Stop").click()
    assert "what you typed is kept" in reader.ends("^Stopped")
    assert cell.get_by_label("Code of this cell").input_value().endswith("pass")
    reader.run(cell, "print('again')").ends()
    assert reader.printed(cell).strip() == "again"


def test_what_was_typed_outlives_a_reload_and_is_downloaded_as_a_notebook(read):  # noqa: F811
    reader = read("04_outputs")
    cell = reader.first()
    reader.write(cell, "mine = 'typed here'")
    reader.reload()
    assert cell.get_by_label("Code of this cell").input_value() == "mine = 'typed here'"
    reader.page.evaluate("document.querySelector('.dn-python').hidden = false")
    with reader.page.expect_download() as waiting:
        reader.page.get_by_role("button", name="Download as notebook").click()
    notebook = json.loads(Path(waiting.value.path()).read_text())
    assert notebook["cells"][-1]["source"] == "mine = 'typed here'" and notebook["nbformat"] == 4
    reader.press(cell, "Back to the book's")
    reader.reload()
    assert cell.get_by_label("Code of this cell").count() == 0


def test_an_exercise_is_answered_wrongly_then_rightly_and_is_listed(read):  # noqa: F811
    reader = read("04_outputs")
    exercise = reader.data["exercises"]["ex-04-hand"]
    cell = reader.cell(exercise["answer"])
    reader.press(cell, "Check")
    reader.ends("^Not yet")
    assert reader.out(cell).locator(".dn-wrong").count() == 1
    reader.write(cell, "my_loss, my_gradient = np.log(4), [-0.75, 0.75]")
    reader.press(cell, "Check")
    reader.ends("^Solved")
    assert reader.out(cell).locator(".dn-right").count() == 1
    reader.page.goto(reader.home + "nbs/exercises.html")
    reader.page.locator(".dn-count", has_text="You have solved 1 of").wait_for()
    assert reader.page.locator("tr.dn-solved").count() == 1


def test_without_the_network_one_sentence_says_so_and_the_next_try_works(read):  # noqa: F811
    reader = read("04_outputs")
    cell = reader.first()
    reader.write(cell, "print('here')")
    reader.context.route("**/pyodide.asm.wasm*", lambda route: route.abort())
    reader.press(cell, "Run")
    assert "nothing you typed is lost" in reader.says("could not be fetched")
    reader.context.unroute("**/pyodide.asm.wasm*")
    reader.press(cell, "Run")
    reader.says("^Ready")
    assert reader.printed(cell).strip() == "here"


def test_a_browser_without_webassembly_says_so(browser, site):  # noqa: F811
    context = browser.new_context()
    context.add_init_script("delete globalThis.WebAssembly")
    page = context.new_page()
    page.set_default_timeout(LIMIT)
    page.goto(site + "nbs/04_outputs.html")
    page.locator(".dn-tools button", has_text="Run").first.dispatch_event("click")
    page.locator(".dn-problem", has_text="cannot run WebAssembly").wait_for()
    context.close()


def fetched():
    """Bytes of Python and its packages that the server sent since it was asked last."""
    total = sum(size for path, size in Handler.sent if "/live/" in path)
    Handler.sent.clear()
    return total


def test_the_network_of_the_front_page_trains_and_a_second_page_fetches_nothing_again(read, capsys):  # noqa: F811
    reader = read("index")
    train, after = (reader.cell(cell["id"]) for cell in reader.plain()[:2])
    fetched()
    start, size = reader.seconds(after, "1 + 1"), fetched()
    reader.seconds(train)
    more = fetched()
    trains = reader.seconds(train)  # what it needs has been fetched and imported
    accuracy = float(re.search(r"([\d.]+)% of", reader.printed(train))[1])
    reader.open("02_backprop")
    again, little = reader.seconds(reader.first(), "import deepnotes as dn\ndn.Tensor(2.0)"), fetched()
    assert accuracy > 95 and size < 30e6 and little < 1e6
    said = (
        f"On this machine ({os.cpu_count()} cores, {os.getloadavg()[0]:.1f} programs wanting them) the first run of a page took "
        f"{start:.0f} s and {size / 1e6:.1f} MB over the wire, the first of a second page {again:.0f} s and {little / 1e6:.1f} MB. "
        f"The digits of the front page need {more / 1e6:.1f} MB more, for scikit-learn and scipy; their network trains in {trains:.1f} s."
    )
    with capsys.disabled():
        print("\n" + said)
    if os.environ.get("DEEPNOTES_MEASURE"):
        path = ROOT / "CONTRIBUTING.md"
        parts = re.split(r"(?<=<!-- measured -->\n)|(?=<!-- end -->)", path.read_text(encoding="utf-8"))
        path.write_text(parts[0] + textwrap.fill(said, 125) + "\n" + parts[2], encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_all_cells_of_a_page_run_to_the_end(read, page):  # noqa: F811
    reader = read(page)
    reader.press(reader.cell(reader.plain()[-1]["id"]), "Run all above")
    reader.ends()
    assert reader.page.locator(".dn-error").all_inner_texts() == []
