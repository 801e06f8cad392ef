"""The book's interactive figures: their numbers, their size and manners, and how a page embeds them.

Where node is installed, ``widgets/check.mjs`` runs the scripts: every number against reference.js, every control moved,
on a stand-in for the page. The reference itself, the scripts' constants, the colors and the structure are checked in
Python alone, always.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from conftest import ROOT

WIDGETS = ROOT / "_static" / "widgets"
HERE = ROOT / "tests" / "book" / "widgets"
SCRIPTS = sorted(WIDGETS.glob("*.js"))
CSS = (WIDGETS / "dn-widgets.css").read_text()
FIGURES = {
    "activation-explorer",
    "angle-explorer",
    "capture-explorer",
    "fit-explorer",
    "graph-stepper",
    "initialization-explorer",
    "loss-gradient",
    "optimizer-race",
    "ranks-explorer",
    "roofline-explorer",
    "softmax-explorer",
    "unfolding-hero",
    "unfolding-viewer",
}


def load(name):
    """Import tests/book/widgets/<name>.py, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def committed_reference():
    text = (HERE / "reference.js").read_text()
    return json.loads(text.removeprefix(load("reference").PREFIX).rstrip().rstrip(";"))


def leaves(value):
    if isinstance(value, dict):
        for key in sorted(value):
            yield key
            yield from leaves(value[key])
    elif isinstance(value, list | tuple):
        yield len(value)
        for item in value:
            yield from leaves(item)
    else:
        yield value


def run(command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **kwargs)


def test_reference_is_what_scipy_numpy_and_mpmath_say():
    load("frames")
    now, then = list(leaves(load("reference").reference())), list(leaves(committed_reference()))
    assert [type(v) is str for v in now] == [type(v) is str for v in then]
    for a, b in zip(now, then, strict=True):
        # lstsq of another BLAS may differ by its own rounding, times the conditioning (below 1e4) of these fits
        assert a == b if isinstance(a, str) else a == pytest.approx(b, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_script_is_small_classic_and_offline(script):
    text = script.read_text()
    assert len(text.encode()) < 12 * 1024
    assert text.startswith("/*"), "each script opens with what it is for and how to embed it"
    assert '"use strict"' in text
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for banned in (
        "fetch(",
        "XMLHttpRequest",
        "import(",
        "innerHTML",
        "eval(",
        "document.write",
        "Math.random",
        "WebSocket",
    ):
        assert banned not in code, banned
    assert not re.search(r"^\s*(import|export)\b", code, flags=re.M)
    assert set(re.findall(r"https?://[^\"' ]+", code)) <= {"http://www.w3.org/2000/svg"}


def test_stylesheet_is_offline_and_follows_the_theme():
    assert "url(" not in CSS and "@import" not in CSS
    assert 'html[data-theme="dark"]' in CSS
    assert CSS.count("{") == CSS.count("}")
    code = " ".join(re.sub(r"/\*.*?\*/|//[^\n]*", "", p.read_text(), flags=re.S) for p in SCRIPTS)
    used = set(re.findall(r"\bdn-[a-z][\w-]*", code))
    styled = set(re.findall(r"\.(dn-[a-z][\w-]*)", CSS))
    plain = {
        "dn-stage",
        "dn-clip-",
        "dn-c",
        "dn-f",
        "dn-select",
    }  # ids, prefixes and hooks without a style of their own
    assert used - styled <= plain


def test_each_figure_registers_once_and_has_a_demo():
    registered = re.findall(r'dnWidgets \|\| \{\}\)\["([a-z-]+)"\]', " ".join(p.read_text() for p in SCRIPTS))
    assert sorted(registered) == sorted(FIGURES)
    demo = (HERE / "demo.html").read_text()
    assert set(re.findall(r'data-widget="([a-z-]+)"', demo)) == FIGURES
    assert {p.name for p in SCRIPTS} == set(re.findall(r'_static/widgets/([\w-]+\.js)"', demo))


def test_chapters_embed_known_figures_with_a_sentence_for_readers_without_javascript():
    sources = [HERE / "demo.html", *(ROOT / "nbs").glob("*.ipynb")]
    divs = []
    for path in sources:
        text = path.read_text()
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        divs += [
            (path.name, *m) for m in re.findall(r'<div[^>]*data-widget="([^"]*)"[^>]*>(.*?)</div>', text, flags=re.S)
        ]
    assert len(divs) >= len(FIGURES)
    for where, name, inside in divs:
        assert name in FIGURES, f"{where}: no figure is called {name}"
        without_data = re.sub(r"<script.*?</script>", "", inside, flags=re.S)
        assert len(re.sub(r"<[^>]+>", "", without_data).strip()) > 20, (
            f"{where}: {name} needs a sentence inside its <div>"
        )


def test_every_chapter_has_a_figure_to_play_with():
    for path in sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb")):
        text = path.read_text(encoding="utf-8")
        assert 'data-widget=' in text or "UnfoldingViewer(" in text, f"{path.name} has no figure to play with"


def constants(name, script="dn-math.js"):
    found = re.search(rf"\b{name} = (\[[^\]]*\]|[\d.]+)", (WIDGETS / script).read_text())
    return json.loads(found.group(1))


def test_constants_of_the_quadrature_and_of_selu():
    x, w = np.polynomial.legendre.leggauss(6)
    np.testing.assert_allclose(constants("GX"), x[3:], rtol=1e-15)
    np.testing.assert_allclose(constants("GW"), w[3:], rtol=1e-15)
    # Klambauer et al. (2017): the alpha and scale for which E f(z) = 0 and E f(z)² = 1 at z ~ N(0, 1), in closed form
    ndtr = scipy.special.ndtr
    alpha = -1 / (np.sqrt(2 * np.pi) * (np.exp(0.5) * ndtr(-1) - 0.5))
    scale = 1 / np.sqrt(0.5 + alpha**2 * (np.exp(2) * ndtr(-2) - 2 * np.exp(0.5) * ndtr(-1) + 0.5))
    assert constants("SA") == pytest.approx(alpha, rel=1e-14)
    assert constants("SL") == pytest.approx(scale, rel=1e-14)


def luminance(color):
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("theme", "page"), [("light", "#ffffff"), ("dark", "#14181e")])
def test_colors_stand_out_from_the_page(theme, page):
    block = re.search(
        r'html\[data-theme="dark"\] \.dn-widget \{(.*?)\}' if theme == "dark" else r"^\.dn-widget \{(.*?)\}",
        CSS,
        re.S | re.M,
    )
    colors = dict(re.findall(r"--dn-(\d): (#[0-9a-f]{3,6})", block.group(1)))
    assert sorted(colors) == list("012345")
    for name, color in colors.items():
        full = color if len(color) == 7 else "#" + "".join(2 * c for c in color[1:])
        low, high = sorted((luminance(full), luminance(page)))
        contrast = (high + 0.05) / (low + 0.05)
        assert contrast >= 4.5, f"--dn-{name} {color} on {page}: {contrast:.2f}"  # WCAG 2.1 AA for text


def test_frames_round_trip_and_wrong_shapes_are_refused():
    frames = load("frames")
    packed = json.loads(frames.xor_frames(seed=0, epochs=200, every=100))
    assert packed["accuracy"][-1] == 1.0
    assert len(packed["steps"]) == len(packed["loss"]) == len(packed["line"]) == 3
    rows, columns = packed["grid"]
    data = np.frombuffer(base64.b64decode(packed["data"]), "<i2")
    assert data.size == 3 * len(packed["layers"]) * (rows * columns + len(packed["labels"])) * 2
    with pytest.raises(ValueError, match="frames have shape"):
        frames.pack_frames(np.zeros((1, 1, 5, 2)), layers=["input"], steps=[0], grid=(2, 2), labels=[0, 1])


def test_figures_compute_the_reference_and_answer_every_control():
    node = shutil.which("node")
    if node is None:  # the scripts cannot run here; what they would be compared with still has to be right
        test_reference_is_what_scipy_numpy_and_mpmath_say()
        test_constants_of_the_quadrature_and_of_selu()
        return
    done = run([node, str(HERE / "check.mjs")])
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert set(report["names"]) == FIGURES
    assert [c for c in report["checks"] if c[1] is None or not c[1] <= c[2]] == []
    assert report["problems"] == []
    assert done.returncode == 0
    assert len(report["checks"]) >= 30 and report["redraws"] > 100
