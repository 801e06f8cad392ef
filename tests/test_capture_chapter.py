"""The exercises of the chapter From Python to machine code: each check takes the solution and refuses wrong answers."""
import re

import numpy as np
import pytest
from book_helpers import code_cells

from deepnotes import kernels


@pytest.fixture(scope="module")
def space():
    "What the chapter's cells define before its exercises, figures left out, and the checks."
    space = {}
    wanted = ("def training_step", "class MiniCapture", "def losses_of", "def counting", "def check_products")
    cells = [cell for cell in code_cells("10_capture") if any(name in cell for name in wanted)]
    assert len(cells) == len(wanted)
    imports = next(cell for cell in code_cells("10_capture") if "from collections import Counter" in cell)
    for cell in [imports, *cells]:
        exec(cell, space)
    return space


def test_solutions_pass_and_skeletons_fail(space):
    checks = set(re.findall(r"^def (check_\w+)", "\n".join(code_cells("10_capture")), re.M))
    assert len(checks) == 8
    names, solved, skeletons, last = dict(space), set(), {}, None
    for cell in code_cells("10_capture"):
        start = re.match(r"(?:def )?(my_\w+|bytes_per_parameter)", cell)
        if start:
            exec(cell, names)
            last = start[1]
        called = re.search(r"^(check_\w+)\(", cell, re.M)
        if called:
            exec(cell, names)
            solved.add(called[1])
            skeletons[called[1]] = last
    assert solved == checks
    for check, skeleton in skeletons.items():
        with pytest.raises(AssertionError):
            names[check](names[skeleton])


def all_names(run):
    with kernels.recording() as launches:
        run()
    return {launch.kernel.name for launch in launches}


@pytest.mark.parametrize("check, wrong", [
    ("products", lambda L: 3 * L), ("products", lambda L: 2 * L), ("traffic", 16), ("traffic", 32),
    ("break_even", lambda cost, plain, fast: cost / fast), ("break_even", lambda cost, plain, fast: cost / (plain - fast + 1e-3)),
    ("frozen", lambda run: set()), ("frozen", all_names), ("compose", lambda f, g: g),
    ("compose", lambda f, g: kernels.elementwise(lambda x: f(g(x)), name="swapped")),
    ("needed", lambda lines, outputs: list(range(len(lines)))),
    ("needed", lambda lines, outputs: [i for i, line in enumerate(lines) if any(line.out is a for a in outputs)]),
    ("share", lambda lives: [0] * len(lives)), ("share", lambda lives: list(np.cumsum([0, *[n for *_, n in lives]])[:-1])),
    ("stream", lambda step, x, y: [step(x, y).item()] * 10),
])
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError):
        space[f"check_{check}"](wrong)


def test_a_recording_alone_goes_wrong_where_the_chapter_says(space):
    fresh, losses_of, mini = space["fresh"], space["losses_of"], space["MiniCapture"]
    for name in ("counting", "branching", "noisy"):
        wrong = np.not_equal(losses_of(fresh(space[name], mini)), losses_of(fresh(space[name])))
        assert wrong.sum() >= 5 and not wrong[0], name
