"""JupyterLite on the full site, in a real browser: the student edition opens and its first cells run. `make test-web` runs this."""

from urllib.parse import urlsplit

import pytest
from browsing import LIMIT, SITE, browser, site  # noqa: F401

if not (SITE / "lite").is_dir():
    pytest.skip("no site with JupyterLite: make web", allow_module_level=True)
CELLS = 10
# what the notebook knows of its first cells of code; many of them are folded, and show no number
COUNTS = f"""jupyterapp.shell.currentWidget.content.widgets.slice(0, {CELLS}).filter((cell) => cell.model.type === 'code')
    .map((cell) => ({{ count: cell.model.executionCount, outputs: cell.model.outputs.toJSON() }}))"""


def test_a_chapter_opens_from_its_page_and_its_first_cells_run(browser, site):  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 2400})
    context.set_default_timeout(LIMIT)
    asked = []
    context.on("request", lambda request: asked.append(urlsplit(request.url)))
    chapter = context.new_page()
    chapter.goto(site + "nbs/04_outputs.html")
    chapter.locator(".dropdown-launch-buttons > button").click()
    with context.expect_page() as opened:
        chapter.get_by_role("link", name="JupyterLite").click()
    page = opened.value
    page.locator(".jp-CodeCell").first.wait_for()
    page.locator(".jp-Cell").first.click()
    for _ in range(CELLS):
        page.keyboard.press("Shift+Enter")
    page.wait_for_function(f"() => {COUNTS}.every((cell) => cell.count)")  # a cell that has run to its end has its number
    ran = page.evaluate(COUNTS)
    assert [cell["count"] for cell in ran] == list(range(1, len(ran) + 1)) and len(ran) > 3
    assert [output for cell in ran for output in cell["outputs"] if output["output_type"] == "error"] == []
    context.close()
    assert {url.netloc for url in asked if url.scheme in ("http", "https")} == {urlsplit(site).netloc}
