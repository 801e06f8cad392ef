"""Interactive figures of the built book, each from a fresh page, by mouse and by keyboard: `make test-web` runs this.

Every animation frame carries a time before the click that asked for it, as browsers may do (see audit.py). What a figure says is
compared with numbers that numpy computes here.
"""

import os
import re

import numpy as np
import pytest
from audit import Visit
from browsing import book, browser  # noqa: F401

TIMES = int(os.environ.get("DEEPNOTES_TIMES") or 3)


@pytest.fixture
def open_figure(browser, book):  # noqa: F811
    """A function that opens a fresh page and gives its figure; the test fails if anything was logged as an error."""
    visits = []

    def open_one(page, widget):
        visit = Visit(browser, book, early=True)
        visits.append(visit)
        visit.open(page)
        figure = visit.page.locator(f'[data-widget="{widget}"]').first
        figure.scroll_into_view_if_needed()
        return visit.page, figure

    yield open_one
    errors = [error for visit in visits for error in visit.errors]
    for visit in visits:
        visit.context.close()
    assert errors == []


def said(figure):
    return figure.locator(".dn-say").inner_text()


def number(text):
    """A number as the figures write it: true minus, powers of ten with raised digits."""
    raised = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    text = text.replace("−", "-")
    match = re.fullmatch(r"(-?[\d.]+)?·?10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", text)
    return float(match[1] or 1) * 10.0 ** int(match[2].translate(raised)) if match else float(text)


def softmax_loss(logits, target):
    logits = np.asarray(logits, float)
    return np.log(np.exp(logits).sum()) - logits[target]


@pytest.mark.parametrize("turn", range(TIMES))
def test_softmax_by_keyboard_and_button(open_figure, turn):
    page, figure = open_figure("nbs/04_outputs.html", "softmax-explorer")
    loss = re.compile(r"= ([^ ]+)\. Most")
    assert number(loss.search(said(figure))[1]) == pytest.approx(softmax_loss([2, 1, 0, -1], 0), rel=0.01)
    for _ in range(3):
        figure.get_by_role("button", name="add 1 to every logit").click()
    before = said(figure)
    assert number(loss.search(before)[1]) == pytest.approx(softmax_loss([2, 1, 0, -1], 0), rel=0.01)
    figure.get_by_role("slider", name="logit of cat").focus()
    for _ in range(10):
        page.keyboard.press("ArrowDown")
    assert number(loss.search(said(figure))[1]) == pytest.approx(softmax_loss([4, 4, 3, 2], 0), rel=0.01)
    assert page.url.endswith("04_outputs.html")


@pytest.mark.parametrize("turn", range(TIMES))
def test_loss_gradient_by_keyboard_and_mouse(open_figure, turn):
    page, figure = open_figure("nbs/04_outputs.html", "loss-gradient")
    table = figure.locator("table")

    def cells():
        return [number(text) for text in table.locator("tr").nth(1).locator("td").all_inner_texts()]

    def expected(z):
        p = 1 / (1 + np.exp(-z))
        return [p, np.log1p(np.exp(-z)), p - 1]

    assert cells() == pytest.approx(expected(-4), rel=0.01)
    handle = figure.get_by_role("slider", name="logit z", exact=True).last
    handle.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert cells() == pytest.approx(expected(-2), rel=0.01)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"], steps=5)
    page.mouse.up()
    assert number(re.search(r"logit ([^:]+):", said(figure))[1]) > -2
    assert page.url.endswith("04_outputs.html")


def race_height(lr, steps, momentum=0.0):
    """Height of Rosenbrock's function above its minimum after `steps` of gradient descent."""
    w, v = np.array([-1.5, 2.0]), np.zeros(2)
    for _ in range(steps):
        x, y = w
        g = np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])
        v = momentum * v + g
        w = w - lr * v
    x, y = w
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


@pytest.mark.parametrize("turn", range(TIMES))
def test_race_runs_from_its_first_frame_to_its_end(open_figure, turn):
    page, figure = open_figure("nbs/07_optimizers.html", "optimizer-race")
    figure.get_by_role("button", name="race").click()
    page.wait_for_timeout(300)
    step = figure.get_by_role("slider", name=re.compile("^step"))
    assert 0 <= float(step.input_value()) <= 400
    step.focus()
    page.keyboard.press("End")
    text = said(figure)
    assert text.startswith("After 400 steps")
    found = re.search(r"gradient descent ([^,]+), momentum ([^,]+)", text)
    assert number(found[1]) == pytest.approx(race_height(0.001, 400), rel=0.06)
    assert number(found[2]) == pytest.approx(race_height(0.001, 400, 0.9), rel=0.06)
    figure.locator("input[type=checkbox]").first.click()
    assert "gradient descent" not in said(figure)


@pytest.mark.parametrize("turn", range(TIMES))
def test_unfolding_plays_and_ends_where_the_network_ends(open_figure, turn):
    page, figure = open_figure("nbs/01_representation.html", "unfolding-viewer")
    figure.get_by_role("button", name="play through the layers").click()
    page.wait_for_timeout(300)
    layer = figure.locator("input[type=range]").first
    assert 0 <= float(layer.input_value()) <= float(layer.get_attribute("max"))
    layer.focus()
    page.keyboard.press("Home")
    assert said(figure).startswith("Space: input")
    page.keyboard.press("End")
    assert "Space: layer 3" in said(figure)


def test_the_front_page_moves_and_holds(open_figure):
    page, figure = open_figure("nbs/index.html", "unfolding-hero")
    picture = figure.locator("svg").first
    page.wait_for_timeout(2500)
    before = picture.inner_html()
    page.wait_for_timeout(400)
    assert picture.inner_html() != before
    figure.get_by_role("button", name="pause").click()
    held = picture.inner_html()
    page.wait_for_timeout(400)
    assert picture.inner_html() == held and figure.get_by_role("button", name="play").is_visible()
