"""deepnotes.plotting: what is drawn is what was asked for, in one look, with no trace left behind."""

import base64
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

from deepnotes import datasets as ds  # noqa: E402
from deepnotes import plotting as pl  # noqa: E402


@pytest.fixture(autouse=True)
def quiet_figures(monkeypatch):
    "No function may show or save; no figure outlives its test."
    def forbidden(*args, **kwargs):
        raise AssertionError("a plotting function called show or savefig")

    plt.close("all")  # what tests of another file left open
    monkeypatch.setattr(plt, "show", forbidden)
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", forbidden)
    monkeypatch.setattr(matplotlib.figure.Figure, "show", forbidden)
    yield
    plt.close("all")


X, Y = ds.make_moons(60, rng=0)
FOLD = [lambda h: h @ np.float32([[1, 1], [-1, 1]]), np.abs]
DRAW = {
    "scatter": lambda **k: pl.scatter(X, Y, **k),
    "decision_regions": lambda **k: pl.decision_regions(lambda p: p[:, :1], X, Y, **k),
    "learned_features": lambda **k: pl.learned_features(np.eye(9)[:, :5], **k),
    "images": lambda **k: pl.images(np.eye(9)[:5], labels="abcde", **k),
    "layer_histograms": lambda **k: pl.layer_histograms([X, X / 2], **k),
    "loss_surface": lambda **k: pl.loss_surface(lambda a, b: a**2 + b**2, **k),
    "trajectory": lambda **k: pl.trajectory([(1, 1), (0, 0)], **k),
    "learning_curves": lambda **k: pl.learning_curves(np.ones((3, 5)), **k),
}


def draw(figure):
    figure.canvas.draw()                                             # text, layout and colors are resolved here
    return figure


# ---- the rules that hold for all


@pytest.mark.parametrize("name", DRAW)
def test_returns_axes_on_a_new_figure_or_on_the_given_one(name):
    ax = DRAW[name]()
    assert isinstance(ax, Axes) and len(plt.get_fignums()) == 1
    draw(ax.figure)
    given = plt.subplots()[1]
    assert DRAW[name](ax=given) is given and len(plt.get_fignums()) == 2
    assert given.has_data()


@pytest.mark.parametrize("name", DRAW)
def test_settings_are_as_before_afterwards(name):
    before = dict(matplotlib.rcParams)
    DRAW[name]()
    assert dict(matplotlib.rcParams) == before


def test_settings_come_back_after_an_error_too():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ValueError):
        pl.scatter(np.zeros(3))
    with pytest.raises(RuntimeError), pl.style():
        assert matplotlib.rcParams["text.color"] == pl.INK
        raise RuntimeError
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", DRAW)
def test_background_is_transparent_and_ink_is_the_books(name):
    ax = DRAW[name]()
    draw(ax.figure)
    assert ax.figure.get_facecolor()[3] == 0 and ax.get_facecolor()[3] == 0
    texts = [t for t in ax.figure.findobj(matplotlib.text.Text) if t.get_text()]
    assert texts or name in ("learned_features", "images", "scatter")
    assert {to_hex(t.get_color()) for t in texts} <= {pl.INK}


def test_drawing_what_one_imports_is_not_importing_matplotlib():
    code = "import sys, deepnotes.plotting as p; print('matplotlib' in sys.modules, 'IPython' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


def test_nothing_above_the_engine_is_imported():
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(pl.__file__).parent.glob("*.py"))
    imported = re.findall(r"^\s*(?:from|import) (\w[\w.]*)", sources, re.M)
    assert {name.partition(".")[0] for name in imported} <= {"base64", "collections", "contextlib", "functools", "json", "math", "typing",
                                                              "warnings", "numpy", "matplotlib", "cycler"}


# ---- one look


def luminance(color):
    c = np.array(matplotlib.colors.to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_ink_is_the_gray_that_reads_best_on_white_and_on_near_black():
    def worst(gray):
        return min(contrast(gray, "#ffffff"), contrast(gray, "#121212"))

    grays = [f"#{v:02x}{v:02x}{v:02x}" for v in range(256)]
    assert worst(pl.INK) == max(map(worst, grays)) > 4.2


def test_first_colors_stand_out_on_both_pages():
    for color in pl.COLORS[:3]:                                      # 3:1 is what the web's guidelines ask of graphics
        assert contrast(color, "#ffffff") > 3 and contrast(color, "#121212") > 3


# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color, matrix):
    c = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", ["none", *DEFICIENCIES])
def test_colors_can_be_told_apart(kind):
    matrix = DEFICIENCIES.get(kind, np.eye(3))
    seen = [lab(c, matrix) for c in pl.COLORS[:4]]
    nearest = min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i])
    assert nearest > 10                                              # CIE76 distance; about 2.3 is just noticeable


def test_color_is_never_alone():
    ax = pl.scatter(np.zeros((7, 2)), np.arange(7))
    shapes = {c.get_paths()[0].vertices.tobytes() for c in ax.collections}
    assert len(shapes) == 7
    ax = pl.learning_curves({str(i): np.ones(4) for i in range(7)})
    assert len({str(line._unscaled_dash_pattern) for line in ax.lines}) == 7


# ---- points and regions


def test_scatter_draws_every_point_once_by_class():
    ax = pl.scatter(X, Y, classes=("up", "down"))
    assert [len(c.get_offsets()) for c in ax.collections] == [30, 30]
    np.testing.assert_array_equal(ax.collections[1].get_offsets(), X[Y == 1])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["up", "down"]
    assert pl.scatter(X).get_legend() is None


@pytest.mark.parametrize("form", ["classes", "scores", "one column"])
def test_regions_show_the_classifiers_answer(form):
    def right(points):
        assert points.dtype == np.float32 and points.shape == (50 * 50, 2)
        score = points[:, :1] - 0.5
        classes = (score[:, 0] > 0).astype(int)
        return {"classes": classes, "scores": np.hstack([-score, score]), "one column": score}[form]

    ax = pl.decision_regions(right, X, Y, resolution=50)
    mesh = ax.collections[0].get_array().reshape(50, 50)
    xs = np.linspace(*ax.get_xlim(), 50)
    inner = np.abs(xs - 0.5) > 0.1                                   # the axes end half a cell outside the grid
    assert (mesh == (xs > 0.5))[:, inner].all()


def test_threshold_moves_the_border_of_probabilities():
    meshes = [pl.decision_regions(lambda p: np.full((len(p), 1), 0.3), X, threshold=t).collections[0].get_array()
              for t in (0.0, 0.5)]
    assert (meshes[0] == 1).all() and (meshes[1] == 0).all()


@pytest.mark.parametrize("answer", [np.zeros(5), np.zeros((200 * 200,)), np.zeros((200 * 200, 0)), np.zeros((1, 2))])
def test_regions_refuse_what_is_no_answer(answer):
    with pytest.raises(ValueError, match="predict must return"):
        pl.decision_regions(lambda p: answer, X)


@pytest.mark.parametrize("y", [Y[:5], Y.astype(float), -Y])
def test_labels_are_class_indices(y):
    with pytest.raises(ValueError, match="class index"):
        pl.scatter(X, y)
    with pytest.raises(ValueError, match="shape .n, 2."):
        pl.scatter(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="class 1, but only 1"):
        pl.scatter(X, Y, classes=["one"])


# ---- folded grids


def test_stages_apply_the_layers_to_points_and_lines():
    points, grid = pl.stages(FOLD, X, lines=5, points_per_line=9)
    assert len(points) == len(grid) == 3 and grid[0].shape == (10, 9, 2)
    np.testing.assert_array_equal(points[0], X)
    for values in (points, grid):
        np.testing.assert_allclose(values[1], values[0] @ np.float32([[1, 1], [-1, 1]]), rtol=1e-6)
        np.testing.assert_allclose(values[2], np.abs(values[1]), rtol=1e-6)
    assert np.ptp(grid[0][:5, :, 0], axis=1).max() == 0 and np.ptp(grid[0][5:, :, 1], axis=1).max() == 0
    assert (grid[0].min(axis=(0, 1)) <= X.min(axis=0)).all() and (grid[0].max(axis=(0, 1)) >= X.max(axis=0)).all()


def test_wide_layers_are_shown_by_their_principal_components():
    W = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    points, _ = pl.stages([lambda h: h @ W], X)
    image = (X @ W).astype(float)
    centered = image - image.mean(axis=0)
    assert points[1].shape == (60, 2)
    # two dimensions hold all of a linear map of the plane: distances survive
    np.testing.assert_allclose(np.linalg.norm(points[1], axis=1), np.linalg.norm(centered, axis=1), rtol=1e-5)
    line = pl.stages([lambda h: h[:, :1]], X)[0][1]
    np.testing.assert_array_equal(line, np.column_stack([X[:, 0], np.zeros(60)]))


def test_folded_grid_draws_one_panel_per_stage():
    axes = pl.folded_grid(FOLD, X, Y, titles=["a", "b", "c"], lines=5)
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]
    _, grid = pl.stages(FOLD, X, lines=5)
    segments = np.array(axes[2].collections[1].get_segments())
    np.testing.assert_allclose(segments, grid[2][5:], rtol=1e-6)
    np.testing.assert_allclose(axes[2].collections[2].get_offsets(), np.abs(FOLD[0](X[Y == 0])), rtol=1e-6)
    assert len(pl.folded_grid(FOLD * 4, X)) == 9
    with pytest.raises(ValueError, match="need 3 axes"):
        pl.folded_grid(FOLD, X, axes=[plt.subplots()[1]])
    with pytest.raises(ValueError, match="layer 2 must return one row per point"):
        pl.folded_grid([np.abs, lambda h: h[:3]], X)


def test_unfolding_is_one_self_contained_piece_of_html():
    figure = pl.Unfolding(FOLD, X, Y, label='two "moons" & <a fold>')
    html = figure._repr_html_()
    assert html == figure._repr_html_()
    assert re.findall(r"https?://[^'\"]+", html) == ["http://www.w3.org/2000/svg"]
    assert 'aria-label="two &quot;moons&quot; &amp; &lt;a fold>"' in html and len(html) < 200_000
    data = json.loads(re.search(r"<script type=\"application/json\">(.*?)</script>", html, re.S)[1])
    frames = np.array(data["frames"])
    assert data["n"] == 60 and data["y"] == Y.tolist() and len(frames) == len(data["titles"]) == 3
    assert frames.min() >= 0 and frames.max() <= 1000
    # the page's coordinates are the stage's, shifted, scaled and turned upside down
    place = frames[2].reshape(-1, 2)[:60]
    back = np.polyfit(place[:, 0], figure.points[2][:, 0], 1), np.polyfit(place[:, 1], figure.points[2][:, 1], 1)
    np.testing.assert_allclose(back[0][0], -back[1][0], rtol=1e-2)
    np.testing.assert_allclose(np.polyval(back[0], place[:, 0]), figure.points[2][:, 0], atol=1.1 * back[0][0])


def test_unfolding_cannot_be_broken_out_of():
    html = pl.Unfolding(FOLD, X, titles=["</script><b>", "b", "c"])._repr_html_()
    assert "</script><b>" not in html
    with pytest.raises(ValueError, match="3 stages need as many titles"):
        pl.Unfolding(FOLD, X, titles=["a"])
    with pytest.raises(ValueError, match="not finite"):
        pl.Unfolding([lambda h: h * np.float32(np.nan)], X)._repr_html_()


def test_viewer_packs_lattice_and_points_as_the_page_reads_them():
    moments = [pl.lattice_stages([lambda h, s=s: h * np.float32(s)], X, lattice=4) for s in (1, 3)]
    assert moments[0].shape == (2, 16 + 60, 2)
    centered = X - X.mean(axis=0)
    np.testing.assert_allclose(moments[1][1][16:], 3 * centered, atol=1e-5)
    lattice = moments[0][0][:16].reshape(4, 4, 2)
    assert np.ptp(lattice[:, :, 0], axis=0).max() == 0 and np.ptp(lattice[:, :, 1], axis=1).max() == 0
    html = pl.UnfoldingViewer(moments, Y, names=["a", "<b"], steps=[0, 10], loss=[1.0, 0.5])._repr_html_()
    data = json.loads(re.search(r"<script type=\"application/json\">(.*?)</script>", html, re.S)[1])
    assert 'data-widget="unfolding-viewer"' in html and "<b" not in html.replace("<p>", "")
    assert data["grid"] == [4, 4] and data["layers"] == ["a", "<b"] and data["loss"] == [1.0, 0.5]
    values = np.frombuffer(base64.b64decode(data["data"]), "<i2").reshape(2, 2, 76, 2) / 32767
    for stage in range(2):
        shown = values[:, stage] * data["scale"][stage]
        np.testing.assert_allclose(shown, np.array(moments)[:, stage], atol=data["scale"][stage] / 32767)
    with pytest.raises(ValueError, match="2 steps, 1 names and 60 points"):
        pl.UnfoldingViewer(moments, Y, names=["a"], steps=[0, 1])
    with pytest.raises(ValueError, match="finite"):
        pl.UnfoldingViewer([moments[0] * np.nan], Y, names=["a", "b"], steps=[0])


# ---- pictures of weights and data


def test_learned_features_puts_each_unit_in_its_tile():
    W = np.random.default_rng(0).standard_normal((12, 5))
    ax = pl.learned_features(W, shape=(3, 4), columns=2, order=[4, 0, 1])
    image = ax.images[0]
    tile = image.get_array()
    np.testing.assert_array_equal(tile[1:4, 0:4], W[:, 4].reshape(3, 4))
    np.testing.assert_array_equal(tile[1:4, 5:9], W[:, 0].reshape(3, 4))
    np.testing.assert_array_equal(tile[5:8, 0:4], W[:, 1].reshape(3, 4))
    shown = np.abs(W[:, [4, 0, 1]]).max()
    assert image.get_clim() == (-shown, shown)                       # zero is the middle of the scale
    assert np.ma.masked_invalid(tile)[1:4, 4].mask.all()             # gaps are transparent
    with pytest.raises(ValueError, match="shape=.height, width."):
        pl.learned_features(W)


def test_images_carry_their_labels():
    ax = pl.images(ds.load_digits().X[:5], labels=ds.load_digits().y[:5], columns=3)
    assert [t.get_text() for t in ax.texts] == ["0", "1", "2", "3", "4"]
    with pytest.raises(ValueError, match="as many labels"):
        pl.images(np.eye(4), labels="ab")


# ---- histograms


def test_histograms_count_every_value():
    values = [np.array([-1.0, 0, 0, 0.5]), np.array([[2.0, 2.0]])]
    ax = pl.layer_histograms(values, names=["a", "b"], bins=3, limits=(-1, 2))
    outlines = [p for p in ax.patches if not p.get_fill()]
    heights = [p.get_data().values + i for i, p in enumerate(outlines)]
    np.testing.assert_allclose(heights[0], 0.85 * np.array([1, 3, 0]) / 3)
    np.testing.assert_allclose(heights[1], 0.85 * np.array([0, 0, 1]), atol=1e-12)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.texts] == ["std 0.54, 50 % zero", "std 0"]


def test_log_histograms_state_what_has_no_logarithm():
    ax = pl.layer_histograms([np.array([0, 1e-3, 1e3, np.nan])], bins=6, log=True)
    assert ax.get_xlim() == (-3, 3) and ax.texts[0].get_text() == "rms 5.8e+02, 33 % zero, 1 not finite"
    pl.layer_histograms([np.zeros(5), np.array([]), np.array([np.inf])], log=True)
    with pytest.raises(ValueError, match="2 names for 1 layers"):
        pl.layer_histograms([X], names=["a", "b"])
    with pytest.raises(ValueError, match="at least one layer"):
        pl.layer_histograms([])


# ---- surfaces and paths


def test_surface_gives_arrays_or_floats():
    seen = []

    def both(a, b):
        seen.append(np.shape(a))
        return a**2 + 3 * b**2

    first = pl.loss_surface(both, resolution=11)
    second = pl.loss_surface(both, resolution=11, vectorized=False)
    assert seen == [(11, 11)] + [()] * 121
    for one, two in zip(first.collections, second.collections, strict=True):
        for p, q in zip(one.get_paths(), two.get_paths(), strict=True):
            np.testing.assert_allclose(p.vertices, q.vertices)


def test_surface_levels_are_level_lines():
    ax = pl.loss_surface(lambda a, b: a + 0 * b, levels=10)
    lines = [path.vertices for path in ax.collections[1].get_paths()]
    assert len(lines) == 9
    for vertices, level in zip(lines, np.linspace(-1, 1, 11)[1:-1], strict=True):
        np.testing.assert_allclose(vertices[:, 0], level, atol=1e-9)


def test_surface_survives_flat_and_infinite_and_refuses_nothing_at_all():
    draw(pl.loss_surface(lambda a, b: 0 * a).figure)
    draw(pl.loss_surface(lambda a, b: np.where(a > 0, np.inf, b), log=True).figure)
    with pytest.raises(ValueError, match="0 finite"):
        pl.loss_surface(lambda a, b: a * np.nan)
    with pytest.raises(ValueError, match="vectorized=False"):
        pl.loss_surface(lambda a, b: 1.0)


def test_trajectory_keeps_the_limits_and_takes_the_next_color():
    ax = pl.loss_surface(lambda a, b: a**2 + b**2)
    before = ax.get_xlim(), ax.get_ylim()
    pl.trajectory([(5, 5), (0, 0)], ax=ax)
    pl.trajectory([(1, 1), (0, 0.5)], ax=ax)
    assert (ax.get_xlim(), ax.get_ylim()) == before
    paths = [line for line in ax.lines if line.get_gid() == "trajectory"]
    assert [p.get_color() for p in paths] == [pl.COLORS[1], pl.COLORS[2]]
    np.testing.assert_array_equal(paths[0].get_xydata(), [(5, 5), (0, 0)])
    with pytest.raises(ValueError, match="empty"):
        pl.trajectory(np.zeros((0, 2)))


# ---- learning curves


@pytest.mark.parametrize("band, low, high", [("range", 1, 9), ("quartiles", 2, 4)])
def test_curves_are_medians_with_their_band(band, low, high):
    runs = np.array([[1.0], [2], [3], [4], [9]]) * np.ones((1, 6))
    ax = pl.learning_curves(runs, band=band)
    assert (ax.lines[0].get_ydata() == 3).all() and ax.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    edge = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == (low, high)


def test_standard_deviation_band_is_around_the_mean():
    ax = pl.learning_curves(np.array([[0.0, 0], [2, 2]]), x=[10, 20], band="std")
    assert ax.lines[0].get_xydata().tolist() == [[10, 1], [20, 1]]
    edge = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == (0, 2)


def test_curves_by_name_and_single_curves():
    ax = pl.learning_curves({"sgd": np.ones(4), "adam": np.full((2, 4), 2.0)}, log=True, ylabel="loss (nats)")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["sgd", "adam"] and ax.get_yscale() == "log"
    assert len(ax.collections) == 1                                  # one seed has no spread
    pl.learning_curves(np.zeros(4), ax=ax)
    assert len({line.get_color() for line in ax.lines}) == 3


def test_missing_values_are_left_out():
    ax = pl.learning_curves(np.array([[1.0, np.nan], [3, 5]]))
    assert ax.lines[0].get_ydata().tolist() == [2, 5]


def test_curve_errors_teach():
    with pytest.raises(ValueError, match="band is"):
        pl.learning_curves(np.ones(3), band="sem")
    with pytest.raises(ValueError, match="3 steps, but x has shape"):
        pl.learning_curves(np.ones(3), x=[1, 2])
    with pytest.raises(ValueError, match="seeds, steps"):
        pl.learning_curves(np.ones((0, 3)))


def test_every_public_docstring_names_its_section():
    for name in pl.__all__:
        thing = getattr(pl, name)
        if callable(thing):
            last = inspect.getdoc(thing).strip().splitlines()[-1]
            titles = "The book's hand|Points and regions|Folded spaces|Surfaces and paths|Curves and histograms"
            assert re.match(f"Chapter: ({titles}), section ", last), (name, last)


# ---- hostile inputs, one per defect once found


@pytest.mark.parametrize("bad", [np.zeros((0, 2)), np.array([[np.nan, 0], [1, 1]]), np.array([[np.inf, 0], [1, 1]])])
def test_points_that_set_the_extent_are_finite_and_there(bad):
    for call in (lambda: pl.decision_regions(lambda p: p, bad), lambda: pl.stages(FOLD, bad),
                 lambda: pl.lattice_stages(FOLD, bad)):
        with pytest.raises(ValueError, match="at least one point, finite ones only"):
            call()


@pytest.mark.parametrize("k", [-1, 10**6])
def test_regions_refuse_classes_that_cannot_be_drawn(k):
    with pytest.raises(ValueError, match="classes 0 to 255 can be drawn"):
        pl.decision_regions(lambda p: np.full(len(p), k), X)


def test_stages_of_a_single_point_and_of_sick_layers():
    points, _ = pl.stages([lambda h: np.hstack([h, h])], X[:1])
    np.testing.assert_allclose(points[1], 0, atol=1e-12)             # one point is its own center
    with pytest.raises(ValueError, match="layer 1 returned values that are not finite"):
        pl.stages([lambda h: np.hstack([h, h]) * np.float32(np.nan)], X)
    with pytest.raises(ValueError, match="layer 1 must return one row per point"):
        pl.stages([lambda h: h[:, :0]], X)
    with pytest.raises(ValueError, match="3 panels .* as many titles, got 1"):
        pl.folded_grid(FOLD, X, titles=["a"])


@pytest.mark.parametrize("loss", [[1.0], [1.0, np.nan]])
def test_viewer_wants_a_finite_loss_per_step(loss):
    moments = [pl.lattice_stages(FOLD, X, lattice=3)] * 2
    with pytest.raises(ValueError, match="2 finite numbers, one per step"):
        pl.UnfoldingViewer(moments, Y, names="abc", steps=[0, 1], loss=loss)


@pytest.mark.filterwarnings("error")
def test_constants_and_diverged_runs_are_drawn_without_a_warning():
    draw(pl.loss_surface(lambda a, b: a * 0 + 1e20).figure)
    draw(pl.layer_histograms([np.full(3, 1e20)]).figure)
    for band in ("range", "std"):
        ax = pl.learning_curves([[1.0, np.nan], [2.0, np.nan]], band=band)
        assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True]
