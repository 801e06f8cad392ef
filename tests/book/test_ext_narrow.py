"""The second drawing of a figure, for a phone: narrow, with letters as large as on the wide page."""

import io
import re
from pathlib import Path
from types import SimpleNamespace

import book_helpers  # noqa: F401, so that deepnotes_ext is found
import matplotlib
import numpy as np
import pytest
from deepnotes_ext import figures, finish, narrow

matplotlib.use("agg")
import matplotlib.pyplot as plt

PX = 96 / 72


@pytest.fixture(autouse=True)
def book_style():
    with plt.style.context(str(Path(figures.__file__).with_name("figures.mplstyle"))):
        yield
    plt.close("all")


def size(svg):
    "Width and height in CSS pixels."
    return [float(re.search(rf'<svg[^>]*\b{name}="([\d.]+)pt"', svg)[1]) * PX for name in ("width", "height")]


def panels(svg):
    "Left and upper edge of each panel's frame, in points."
    boxes = re.findall(r'<g id="axes_\d+">\s*<g id="patch_\d+">\s*<path d="M ([\d.]+) [\d.]+ \nL [\d.]+ [\d.]+ \nL [\d.]+ ([\d.]+) ', svg)
    return [(float(x), float(y)) for x, y in boxes]


def lines(rows, columns, width=9, height=3):
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, sharey=True)
    for k, ax in enumerate(axes.flat):
        ax.plot([0, 1], [0, k])
        ax.set(xlabel="step", title=f"panel {k}")
    return figure


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_panels_stand_below_each_other_in_their_order(columns):
    places = panels(narrow.narrow(lines(1, columns)))
    assert len(places) == columns
    assert max(x for x, _ in places) - min(x for x, _ in places) < 20  # one column, but for the width of its numbers
    assert [y for _, y in places] == sorted(y for _, y in places)


def test_it_fits_a_phone():
    for figure in (lines(1, 1, 6.4, 3.6), lines(1, 3), lines(2, 4, 9, 5)):
        width, height = size(narrow.narrow(figure))
        assert width == pytest.approx(narrow.WIDTH * 96, abs=1) and 150 < height < 2200


def test_letters_are_as_large_as_before(monkeypatch):
    monkeypatch.setitem(plt.rcParams, "svg.fonttype", "none")  # letters as text, whose size can be read

    def letters(svg):
        return {float(s) for s in re.findall(r"font(?:-size)?: (?:[\w.]+ )*?([\d.]+)px", svg)}

    figure = lines(1, 3)
    wide = io.StringIO()
    figure.savefig(wide, format="svg")
    small = letters(narrow.narrow(figure))
    assert small and small == letters(wide.getvalue())
    assert min(small) * PX * 310 / (narrow.WIDTH * 96) >= 10  # as a phone of 390 px shows it, measured in the built book


def test_numbers_that_a_neighbor_showed_are_shown_by_each():
    figure = lines(1, 3)
    assert not figure.axes[2].yaxis.get_tick_params()["labelleft"]
    narrow._restack(figure)
    assert all(ax.yaxis.get_tick_params().get("labelleft", True) for ax in figure.axes)


def test_pictures_stay_side_by_side():
    figure, axes = plt.subplots(2, 5, figsize=(8, 3.4))
    for ax in axes.flat:
        ax.imshow(np.eye(8))
        ax.axis("off")
    assert narrow._columns(list(axes.flat), 5) == 5
    width, height = size(narrow.narrow(figure))
    assert width == pytest.approx(narrow.WIDTH * 96, abs=1) and height < 400


def test_the_figure_itself_is_left_alone_and_no_other_is_open():
    figure = lines(1, 2)
    before = [ax.get_position().bounds for ax in figure.axes], tuple(figure.get_size_inches()), plt.get_fignums()
    assert narrow.narrow(figure)
    assert ([ax.get_position().bounds for ax in figure.axes], tuple(figure.get_size_inches()), plt.get_fignums()) == before


def test_a_legend_over_all_panels_takes_more_rows():
    figure = lines(1, 2)
    names = ["gradient descent", "momentum", "RMSprop", "Adam"]
    figure.legend([*figure.axes[0].lines] * 4, names, loc="outside upper center", ncols=4)
    width, _ = size(narrow.narrow(figure))
    assert width == pytest.approx(narrow.WIDTH * 96, abs=1)
    assert len(figure.legends) == 1 and figure.legends[0]._ncols == 4


def test_a_legend_above_a_panel_is_not_cut():
    import pickle

    figure = lines(1, 1, 6.4, 3.6)
    names = ["matrix products", "other loops", "everything else in Python"]
    figure.axes[0].legend([*figure.axes[0].lines] * 3, names, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    copy = pickle.loads(pickle.dumps(figure))
    narrow._legends(copy)
    copy.set_size_inches(narrow.WIDTH, 3)
    copy.draw_without_rendering()
    box = copy.axes[0].get_legend().get_window_extent()
    assert box.x1 <= copy.bbox.x1 + 1 and box.y0 >= copy.axes[0].get_window_extent().y1 - 1  # whole, and above the panel
    assert narrow.narrow(figure)


def test_what_is_narrow_already_or_finds_no_room_has_none():
    assert narrow.narrow(lines(1, 1, 4.0, 3.0)) is None
    percent = lines(1, 1, 6.4, 3.6)
    percent.axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    assert narrow.narrow(percent) is None
    crowded = lines(1, 12, 12, 2)
    for ax in crowded.axes:
        ax.set_ylabel("a long name of an axis " * 3)
    assert narrow.narrow(crowded) is None or size(narrow.narrow(crowded))[0] < 400


def test_a_page_names_the_second_drawing_for_narrow_windows(tmp_path):
    (tmp_path / "_images").mkdir()
    (tmp_path / "nbs").mkdir()
    svg = '<svg width="270pt" height="180pt"></svg>'
    for name in ("a.svg", "a.narrow.svg", "a.dark.svg", "a.dark.narrow.svg", "b.svg"):
        (tmp_path / "_images" / name).write_text(svg)
    images = "".join(f'<img alt="" src="../_images/{name}.svg">' for name in ("a", "a.dark", "b"))
    html = finish.pictures(f"<head></head><body>{images}</body>", tmp_path / "nbs" / "page.html")
    pattern = (
        r'<picture><source media="\(max-width: 480px\)" srcset="([^"]+)" width="360" height="240" />'
        r'<img [^>]*src="([^"]+)"'
    )
    found = re.findall(pattern, html)
    assert found == [("../_images/a.narrow.svg", "../_images/a.svg"), ("../_images/a.dark.narrow.svg", "../_images/a.dark.svg")]
    assert html.count("<picture>") == 2 and html.count("<img ") == 3


def test_second_drawings_belong_to_the_figures_of_their_cell():
    second = {narrow.KEY: {"svg": "small"}}
    outputs = [{"data": {"image/svg+xml": "one"}, "metadata": second}, {"name": "stdout"}, {"data": {"image/svg+xml": "two"}}]
    assert list(figures.narrow_drawings({"outputs": outputs})) == ["small", None]


def test_they_are_copied_under_the_names_of_the_book(tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "out" / "_images").mkdir(parents=True)
    (tmp_path / "made" / "x.narrow.svg").write_text("small")
    env = SimpleNamespace(images={"made/x.svg": ({"page"}, "x1.svg"), "made/y.svg": ({"page"}, "y.svg")})
    app = SimpleNamespace(builder=SimpleNamespace(format="html", imagedir="_images"), env=env, srcdir=tmp_path, outdir=tmp_path / "out")
    figures.place_narrow(app, None)
    assert [p.name for p in (tmp_path / "out" / "_images").iterdir()] == ["x1.narrow.svg"]
