"""The exercises of the chapter From Python to machine code: each check takes the solution and refuses wrong answers."""
import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise

from deepnotes import kernels


@pytest.fixture(scope="module")
def space():
    "What the chapter's cells define before its exercises, figures left out, and the checks."
    space = {}
    wanted = ("def training_step", "class MiniCapture", "def losses_of", "def counting")
    cells = [cell for cell in code_cells("10_capture") if any(name in cell for name in wanted)]
    assert len(cells) == len(wanted)
    cells += [cell for cell in code_cells("10_capture") if "\ndef check_" in cell]
    imports = next(cell for cell in code_cells("10_capture") if "from collections import Counter" in cell)
    for cell in [imports, *cells]:
        exec(cell, space)
    return space


@checked("10_capture")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


def all_names(run):
    with kernels.recording() as launches:
        run()
    return {launch.kernel.name for launch in launches}


WRONG = [
    ("check_products", lambda L: 3 * L), ("check_products", lambda L: 2 * L), ("check_traffic", 16), ("check_traffic", 32),
    ("check_break_even", lambda cost, plain, fast: cost / fast),
    ("check_break_even", lambda cost, plain, fast: cost / (plain - fast + 1e-3)),
    ("check_break_even", lambda cost, plain, fast: round(cost / (plain - fast)) if fast != plain else float("inf")),
    ("check_frozen", lambda run: set()), ("check_frozen", all_names), ("check_compose", lambda f, g: g),
    ("check_compose", lambda f, g: kernels.elementwise(lambda x: f(g(x)), name="swapped")),
    ("check_needed", lambda lines, outputs: list(range(len(lines)))),
    ("check_needed", lambda lines, outputs: [i for i, line in enumerate(lines) if any(line.out is a for a in outputs)]),
    ("check_share", lambda lives: [0] * len(lives)),
    ("check_share", lambda lives: list(np.cumsum([0, *[n for *_, n in lives]])[:-1])),
    ("check_stream", lambda step, x, y: [step(x, y).item()] * 10),
    ("check_stream", lambda step, x, y: [step(x, y).item() for _ in range(10)]),
]


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError, match=" "):
        space[check](wrong)


def needed_by_version(lines, outputs):
    "Forwards, which line wrote what each line reads; then what can be reached."
    last, reads = {}, []
    for i, line in enumerate(lines):
        reads.append({last[id(x)] for x in line.operands if id(x) in last})
        last[id(line.out)] = i
    found, todo = set(), [last[id(a)] for a in outputs]
    while todo:
        found.add(i := todo.pop())
        todo += reads[i] - found
    return sorted(found)


def share_by_trying(lives):
    places = [0] * len(lives)
    for i in (1, 3, 0, 2):
        first, last, length = lives[i]
        taken = {p for j in (1, 3, 0, 2)[: (1, 3, 0, 2).index(i)] if lives[j][0] <= last and first <= lives[j][1]
                 for p in range(places[j], places[j] + lives[j][2])}
        places[i] = next(p for p in range(99) if not taken & set(range(p, p + length)))
    return places


OTHER_RIGHT = [("check_break_even", lambda cost, plain, fast: float("inf") if fast >= plain else cost / (plain - fast)),
               ("check_needed", needed_by_version), ("check_share", share_by_trying)]


@pytest.mark.parametrize("check, answer", OTHER_RIGHT, ids=[check for check, _ in OTHER_RIGHT])
def test_a_right_answer_that_is_not_the_books_is_accepted(space, check, answer):
    space[check](answer)


def test_a_recording_alone_goes_wrong_where_the_chapter_says(space):
    fresh, losses_of, mini = space["fresh"], space["losses_of"], space["MiniCapture"]
    for name in ("counting", "branching", "noisy"):
        wrong = np.not_equal(losses_of(fresh(space[name], mini)), losses_of(fresh(space[name])))
        assert wrong.sum() >= 5 and not wrong[0], name
