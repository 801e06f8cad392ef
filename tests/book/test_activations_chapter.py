"""What chapter 3 claims: cards from the code, the gradient's reach, dead units' slope, exercises that tell right from wrong."""
import json
import math
import re

import numpy as np
import pytest
from book_helpers import ROOT, checked, code_cells, try_exercise

from deepnotes import activations
from deepnotes.activations import UNITS, Symbol, card, expectation, formula_tex, kinks
from deepnotes.autograd import Tensor, elementwise_op, grad_check, no_grad
from deepnotes.comparing import paired
from deepnotes.kernels import backend, maximum
from deepnotes.optimizers import Adam

CHAPTER = ROOT / "nbs" / "03_activations.ipynb"


@pytest.fixture(scope="module")
def cards():
    with backend("numpy"):
        return {name: card(name) for name in UNITS}


def test_a_product_of_matrices_is_a_matrix():
    rng = np.random.default_rng(0)
    W1, W2 = rng.normal(size=(4, 800)), rng.normal(size=(800, 3))
    assert np.linalg.matrix_rank(W1 @ W2) == 3


def test_known_expectations(cards):
    half = {"relu": 0.5, "leaky_relu": (1 + 0.01**2) / 2, "prelu": (1 + 0.25**2) / 2}
    for name, value in half.items():
        assert cards[name].mean_square == pytest.approx(value, abs=1e-12)
        assert cards[name].mean_square_slope == pytest.approx(value, abs=1e-12)
    assert cards["relu"].mean == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-12)
    # E[z Φ(z)] = E[φ(z)] = 1 / (2 sqrt(pi)) by Stein's lemma
    assert cards["gelu"].mean == pytest.approx(1 / (2 * math.sqrt(math.pi)), abs=1e-12)
    assert cards["sigmoid"].mean == pytest.approx(0.5, abs=1e-12)
    assert cards["selu"].mean == pytest.approx(0, abs=1e-9) and cards["selu"].mean_square == pytest.approx(1, abs=1e-9)
    assert cards["hardtanh"].mean_square_slope == pytest.approx(math.erf(1 / math.sqrt(2)), abs=1e-12)
    assert cards["relu6"].mean_square < cards["relu"].mean_square


def test_expectation_is_a_quadrature():
    for power, moment in ((0, 1), (2, 1), (4, 3), (6, 15)):
        assert expectation(lambda z, p=power: z**p) == pytest.approx(moment, abs=1e-11)
    assert expectation(np.square, scale=3.0) == pytest.approx(9, abs=1e-10)
    assert expectation(lambda z: np.where(z > 0.3, 1.0, 0.0), breaks=[0.3]) == pytest.approx(0.38208857781104744, abs=1e-12)


def test_cards_know_limits_ranges_and_saturation(cards):
    assert cards["sigmoid"].range == "(0, 1)" and cards["relu"].range == r"[0, \infty)" and cards["relu6"].range == "[0, 6]"
    assert cards["leaky_relu"].range == r"(-\infty, \infty)" and cards["tanh"].limits == (-1, 1)
    assert cards["sigmoid"].steepest == pytest.approx(0.25) and cards["selu"].end_slopes[1] == pytest.approx(1.0507009873554805)
    low, high = cards["sigmoid"].saturation
    assert 1 / (4 * math.cosh(high / 2) ** 2) == pytest.approx(0.01, rel=2e-3) and low == pytest.approx(-high)
    assert cards["relu"].saturation[1] is None and cards["relu"].saturated() == "below 0.00"
    assert cards["leaky_relu"].saturated() == "nowhere"


def test_kinks_are_found_where_they_are(cards):
    expected = {"relu": [0], "relu6": [0, 6], "hardsigmoid": [-3, 3], "hardswish": [-3, 3], "hardtanh": [-1, 1], "softshrink": [-0.5, 0.5],
                "hardshrink": [-0.5, 0.5], "threshold": [1], "selu": [0], "leaky_relu": [0], "prelu": [0]}
    for name, found in cards.items():
        assert found.kinks == pytest.approx(expected.get(name, [])), name
    assert kinks(lambda x: activations.softshrink(x, 0.3)) == pytest.approx([-0.3, 0.3])


def test_formulas_write_themselves(cards):
    assert cards["gelu"].formula == r"x \, \Phi\left(x\right)"
    assert cards["elu"].derivative == r"\begin{cases} \alpha \, e^{x} & x \le 0 \\ 1 & \text{otherwise} \end{cases}"
    assert cards["tanh"].derivative == "1 - f^2"
    assert formula_tex(lambda x, beta: (x - 1.0) / beta * 2.0) == r"\frac{x - 1}{\beta} \, 2"
    assert formula_tex(lambda x: -(x + 1.0) * (x + 1.0)) == r"\left(-\left(x + 1\right)\right) \, \left(x + 1\right)"
    assert isinstance(maximum(Symbol("x"), 0.0), Symbol)
    for name, found in cards.items():
        text = found._repr_markdown_()
        assert found.formula in text and "inf" not in text.replace(r"\infty", "") and "Symbol" not in text, name
        for tex in (found.formula, found.derivative):
            assert tex.count("{") == tex.count("}") and tex.count(r"\left") == tex.count(r"\right"), name


def test_a_new_unit_gets_a_card(monkeypatch):
    cube = elementwise_op(lambda x: x * x * x, lambda x: 3.0 * x * x, name="test_cube")
    monkeypatch.setitem(UNITS, "cube", activations.Unit(cube, cube.op))
    made = card("cube")
    assert made.mean_square == pytest.approx(15, abs=1e-9) and made.mean_square_slope == pytest.approx(27, abs=1e-9)


def names_of(*marks):
    "The chapter's own definitions: the cells that hold one of the marks, executed."
    from deepnotes import autograd, datasets
    space = {**vars(autograd), **vars(datasets), **vars(activations), "np": np, "backend": backend, "no_grad": no_grad}
    for cell in code_cells("03_activations"):
        if any(mark in cell for mark in marks):
            exec(cell, space)
    return space


def test_gradients_reach_as_far_as_the_cards_say(cards):
    space = names_of("def make_nets", "def run(", "load_digits()")
    space["cards"] = cards
    cell = next(cell for cell in code_cells("03_activations") if "def gradient_by_layer" in cell)
    exec(cell.split("trio =")[0], space)
    for name in ("sigmoid", "tanh", "relu"):
        found = np.median(space["gradient_by_layer"](name, 16, width=96)[0])
        predicted = (cards[name].mean_square_slope / cards[name].mean_square) ** 7
        # each of the 14 layers between multiplies by chi with a relative spread of about 1/sqrt(96) in the mean square
        assert abs(math.log(found / predicted)) < 3 * math.sqrt(14 / 96), name


def test_sigmoid_does_not_learn_in_ten_layers_where_tanh_does(cards):
    space = names_of("def make_nets", "def run(", "load_digits()", "def epoch", "def train(")
    space["cards"] = cards
    error = {name: space["train"](name, 10, np.float32(0.02), 6, nets=2)[0][-1, 1] for name in ("sigmoid", "tanh")}
    assert (error["sigmoid"] > 0.8).all() and (error["tanh"] < 0.1).all()


def test_more_gated_cells_than_plain_ones_learn_a_long_memory_in_the_same_time():
    space = names_of("def cell_parameters") | {"Adam": Adam}
    cell = next(cell for cell in code_cells("03_activations") if "def remember" in cell)
    exec(cell.split("marks =")[0], space)
    gated, plain = (space["remember"](flag, 80, (80,), nets=12)[0] for flag in (True, False))
    assert (gated >= 0.95).sum() >= 9 and (plain >= 0.95).sum() <= 7
    assert paired(gated, plain).settled


def test_a_gain_and_adam_train_ten_layers_of_sigmoids_but_not_for_new_images(cards):
    space = names_of("def make_nets", "def run(", "load_digits()", "def epoch", "def train(")
    cell = next(cell for cell in code_cells("03_activations") if "def under_adam" in cell)
    space |= {"cards": cards, "expectation": expectation}
    exec(cell.split("ten =")[0], space)
    trained, tested = space["under_adam"](6.8, space["splits"](range(50, 53)))
    assert trained.max() < 0.15 and tested.min() > 0.08


def space_of_checks():
    space = {"np": np, "Tensor": Tensor, "UNITS": UNITS, "card": card, "expectation": expectation, "formula_tex": formula_tex,
             "elementwise_op": elementwise_op, "grad_check": grad_check, "maximum": maximum,
             "maxout": activations.maxout, "relu": activations.relu}
    for cell in code_cells("03_activations"):
        if re.search(r"^def check_", cell, re.MULTILINE):
            exec(cell, space)
    return space


@checked("03_activations")
def test_the_skeleton_is_refused_and_the_solution_accepted(exercise):
    try_exercise(exercise, space_of_checks())


WRONG = [
    ("check_layers", 9), ("check_layers", 11),
    ("check_slope", lambda z: np.exp(z) / (1 + np.exp(z))), ("check_slope", np.tanh),
    ("check_slope", lambda z: 1 / (1 + np.exp(-np.abs(z)))),
    ("check_tanh", lambda z: 2 / (1 + np.exp(-2 * z)) - 1), ("check_tanh", lambda z: np.abs(np.tanh(z))),
    ("check_leaky", lambda a: 0.5), ("check_leaky", lambda a: (1 + a) / 2), ("check_leaky", lambda a: (1 + a**2) / 2 - (1 - a) ** 2 / 6.28),
    ("check_selu", (1.0, 1.0)), ("check_selu", (1.05, 1.67)), ("check_selu", (-1.0507009873554805, 1.6732632423543772)),
    ("check_maxout", ([1.0, 1.0], [1.0, 1.0])), ("check_maxout", ([0.0, 1.0], [0.0, 1.0])), ("check_maxout", ([0.0, -1.0], [-1.0, 1.0])),
    ("check_squared_relu", activations.relu),
    ("check_squared_relu", lambda x: Tensor(np.square(np.maximum(x.numpy(), 0)))),
    ("check_squared_relu", elementwise_op(lambda x: maximum(x, 0.0) * maximum(x, 0.0), lambda x: maximum(x, 0.0), name="half_the_slope")),
    ("check_gain", lambda f: 1.0), ("check_gain", lambda f: 5 / 3), ("check_gain", lambda f: expectation(lambda z: f(z) ** 2)),
    ("check_gain", lambda f: (expectation(lambda z: f(z) ** 2) - expectation(f) ** 2) ** -0.5),                    # the variance
]


@pytest.mark.parametrize("number", range(len(WRONG)), ids=lambda number: f"{number}-{WRONG[number][0]}")
def test_checks_refuse_wrong_answers(number):
    check, wrong = WRONG[number]
    with pytest.raises(AssertionError, match=" "):
        space_of_checks()[check](*wrong if isinstance(wrong, tuple) else (wrong,))


def selu_by_bisection():
    low, high = 1.0, 3.0
    for _ in range(60):
        a = (low + high) / 2
        mean = expectation(lambda z, a=a: np.where(z > 0, z, a * np.expm1(np.minimum(z, 0))))
        low, high = (a, high) if mean > 0 else (low, a)
    return expectation(lambda z: np.where(z > 0, z, low * np.expm1(np.minimum(z, 0))) ** 2) ** -0.5, low


OTHER_RIGHT = [
    ("check_slope", lambda z: 0.5 + 0.5 * np.tanh(z / 2)), ("check_tanh", lambda z: np.expm1(2 * z) / (np.expm1(2 * z) + 2)),
    ("check_leaky", lambda a: 0.5 + a * a / 2), ("check_selu", selu_by_bisection()), ("check_maxout", ([1.0, 0.5, 0.0], [1.0, -1.0])),
    ("check_gain", lambda f: expectation(lambda z: np.square(f(z))) ** -0.5),
]


@pytest.mark.parametrize("number", range(len(OTHER_RIGHT)), ids=lambda number: OTHER_RIGHT[number][0])
def test_a_right_answer_that_is_not_the_books_is_accepted(number):
    check, answer = OTHER_RIGHT[number]
    space_of_checks()[check](*answer if isinstance(answer, tuple) else (answer,))


def test_the_docstrings_name_sections_of_the_chapter():
    text = "".join("".join(cell["source"]) + "\n" for cell in json.loads(CHAPTER.read_text())["cells"] if cell["cell_type"] == "markdown")
    headings = {line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")}
    for name in activations.__all__:
        thing = getattr(activations, name)
        if callable(thing):
            last = [line.strip() for line in thing.__doc__.strip().splitlines()][-1]
            assert last.startswith("Chapter: Activation functions, section "), name
            assert last.split("section ")[1] in headings, name
