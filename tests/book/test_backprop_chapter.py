"""Chapter 2's claims: each experiment's known answer fails here if it stops being true."""

import json
import math
import re
import tracemalloc

import numpy as np
import pytest
from book_helpers import ROOT, checked, try_exercise
from fastcore import test as asserts

import deepnotes as dn
from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.outputs import binary_cross_entropy_with_logits

NBS = ROOT / "nbs"


def cells(kind, chapter="02_backprop"):
    book = json.loads((NBS / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == kind]


def defined(*names):
    "What the chapter's own cells define, from the cells that define these names."
    space = dict(np=np, dn=dn, ag=ag, kernels=kernels, tracemalloc=tracemalloc, rng=np.random.default_rng(0))
    space |= dict(math=math, test_close=asserts.test_close, test_eq=asserts.test_eq, glue=lambda *_: None)
    for name in names:
        pattern = rf"^(?:class|def) {name}\b|^{name} = "
        [source] = [s for s in cells("code") if re.search(pattern, s, re.M) and "#| export" not in s][:1]
        exec(source, space)
    return space


def layers(depth, activation, batch, width, dtype=np.float32):
    rng = np.random.default_rng(0)
    weights = [
        dn.Tensor(rng.standard_normal((width, width)).astype(dtype) / np.sqrt(width).astype(dtype), requires_grad=True)
        for _ in range(depth)
    ]
    X = dn.Tensor(rng.standard_normal((batch, width)).astype(dtype))

    def loss():
        h = X
        for W in weights:
            h = activation(h @ W)
        return h.sum()

    return weights, loss


# ---- the scalar engine


def test_the_thirty_line_engine_agrees_with_the_library_on_random_expressions():
    space = defined("Scalar", "in_order", "backward")
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.uniform(-1, 1, 4)
        small = [space["Scalar"](float(v)) for v in values]
        large = [dn.Tensor(np.array(v), requires_grad=True) for v in values]
        for _ in range(10):
            i, j, op = rng.integers(len(small)), rng.integers(len(small)), rng.integers(3)
            for nodes in (small, large):
                a, b = nodes[i], nodes[j]
                nodes.append((a + b, a - b, a * b)[op])
        space["backward"](small[-1])
        if large[-1].requires_grad:
            large[-1].backward()
        for s, t in zip(small[:4], large[:4], strict=True):
            assert s.grad == pytest.approx(0 if t.grad is None else t.grad.item(), abs=1e-9)


def test_naive_recursion_visits_paths_and_the_ordered_walk_visits_nodes():
    space = defined("Scalar", "in_order", "backward", "push")
    for k in (1, 5, 12):
        assert space["push"](space["ladder"](k)[0]) == 2 ** (k + 1) - 1
        assert len(space["in_order"](space["ladder"](k)[0])) == k + 1
    top, bottom = space["ladder"](40)
    space["backward"](top)
    assert bottom.grad == 2.0**40


def test_the_widget_and_the_engine_tell_the_same_story():
    [graph] = [json.loads(found) for text in cells("markdown") for found in re.findall(r'json">(.*?)</script>', text, re.S)]
    values = {node["id"]: dn.Tensor(float(node["value"]), requires_grad=True) for node in graph["nodes"] if "value" in node}
    leaves = dict(values)
    ops = {"*": ag.multiply, "+": ag.add, "-": ag.subtract, "square": ag.square}
    for node in graph["nodes"]:
        if "op" in node:
            values[node["id"]] = ops[node["op"]](*[values[i] for i in node["inputs"]])
    values["L"].backward()
    assert (values["L"].item(), {name: t.grad.item() for name, t in leaves.items()}) == (4, {"w": 20, "x": 12, "t": -4})
    [text] = [text for text in cells("markdown") if "graph-stepper" in text]
    assert "20 in all; x receives 12, and t −4" in text             # what readers without JavaScript are told


# ---- rules for arrays


def test_rules_are_products_with_the_jacobian():
    jacobian = defined("jacobian")["jacobian"]
    rng = np.random.default_rng(2)
    A, B, G, b = (rng.standard_normal(shape) for shape in ((2, 3), (3, 4), (2, 4), 4))
    for f, v, answer in (
        (lambda A: A @ B, A, G @ B.T),
        (lambda B: A @ B, B, A.T @ G),
        (lambda b: A @ B + b, b, G.sum(axis=0)),
    ):
        by_jacobian = (jacobian(f, v).T @ G.ravel()).reshape(v.shape)
        np.testing.assert_allclose(by_jacobian, answer, atol=1e-8)
        t = dn.Tensor(v, requires_grad=True)
        f(t).backward(G)
        np.testing.assert_allclose(t.grad.numpy(), answer, atol=1e-12)


def test_the_walk_in_a_dozen_lines_equals_the_library():
    walk = defined("walk")["walk"]
    w = dn.Tensor(np.linspace(-1, 1, 12).reshape(4, 3), requires_grad=True)
    b = dn.Tensor(np.array([0.5, -0.5, 1.0]), requires_grad=True)
    loss = (ag.tanh(w + b) * (w @ w.T).sum() + ag.exp(b)).mean()
    leaves = walk(loss, np.float64(1))
    loss.backward()
    for t in (w, b):
        np.testing.assert_allclose(leaves[t], t.grad.numpy(), rtol=1e-12)


# ---- checking


def test_the_network_by_hand_agrees_with_the_library():
    space = defined("forward", "loss_by_hand", "gradient_by_hand")
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((7, 3)), rng.integers(0, 2, (7, 1)).astype(float)
    weights = [rng.standard_normal(size) for size in ((3, 6), (6,), (6, 1), (1,))]

    def loss(W1, b1, W2, b2):
        return binary_cross_entropy_with_logits(ag.maximum(X @ W1 + b1, 0.0) @ W2 + b2, y)

    tensors = [ag.Tensor(w, requires_grad=True) for w in weights]
    value = loss(*tensors)
    value.backward()
    assert value.item() == pytest.approx(space["loss_by_hand"](X, y, *weights), rel=1e-12)
    for t, g in zip(tensors, space["gradient_by_hand"](X, y, *weights), strict=True):
        np.testing.assert_allclose(t.grad.numpy(), g, rtol=1e-10, atol=1e-14)


def test_dual_numbers_find_what_the_walk_finds():
    space = defined("Scalar", "in_order", "backward", "Dual")
    rng = np.random.default_rng(2)
    for _ in range(20):
        values, plan = rng.normal(size=4), [(rng.integers(0, 4 + k, 2), "+-*"[rng.integers(3)]) for k in range(8)]

        def build(nodes, plan=plan):
            for (i, j), op in plan:
                a, b = nodes[i], nodes[j]
                nodes.append(a + b if op == "+" else a - b if op == "-" else a * b)
            return nodes[-1]

        leaves = [space["Scalar"](v) for v in values]
        space["backward"](build(list(leaves)))
        slopes = [build([space["Dual"](v, float(i == k)) for i, v in enumerate(values)]).slope for k in range(4)]
        np.testing.assert_allclose(slopes, [leaf.grad for leaf in leaves], rtol=1e-9, atol=1e-12)


def test_best_step_of_central_differences():
    error = defined("relative_error")["relative_error"]
    steps = 10.0 ** np.linspace(-11, -1, 61)
    for dtype, u in ((np.float64, 2.0**-53), (np.float32, 2.0**-24)):
        chosen = steps[steps > 30 * u]
        errors = np.array([error(h, dtype) for h in chosen])
        best = (3 * u) ** (1 / 3)
        assert best / 5 < chosen[errors.argmin()] < 5 * best
        assert (errors <= 2 * (chosen**2 / 6 + 2 * u / chosen)).all()    # both terms, with rounding of exp and of the quotient
    one_sided = np.array([error(h, np.float64, forward=True) for h in steps])
    assert one_sided.min() > 100 * min(error(h, np.float64) for h in steps)


# ---- costs


@pytest.mark.parametrize("depth", [1, 2, 5, 12])
def test_backward_costs_two_forward_passes_less_one_product(depth):
    def flops(launches):
        return sum(2 * one.out.size * one.operands[0].shape[-1] for one in launches if one.kernel.name == "matmul")

    _, loss = layers(depth, ag.tanh, 8, 16)
    with kernels.recording() as forward:
        out = loss()
    with kernels.recording() as back:
        out.backward()
    assert flops(forward) == depth * 2 * 8 * 16 * 16
    assert flops(back) * depth == flops(forward) * (2 * depth - 1)


def test_cost_of_backward_does_not_depend_on_the_number_of_weights():
    ratios = []
    for width in (4, 16, 64):
        _, loss = layers(3, ag.tanh, 8, width)
        with kernels.recording() as forward:
            out = loss()
        with kernels.recording() as back:
            out.backward()
        ratios.append(len(back) / len(forward))
    assert len(set(ratios)) == 1 and ratios[0] < 3                  # launches: the same few, however many weights


@pytest.mark.parametrize("by, per_layer", [("input", 2), ("result", 1)])
def test_memory_is_what_the_rules_name(by, per_layer):
    rule = {
        "input": lambda g, x: kernels.where(x > 0, g, 0.0),
        "result": lambda g, out: kernels.where(out > 0, g, 0.0),
    }[by]
    relu = ag.elementwise_op(lambda x: kernels.maximum(x, 0.0), rule, name=f"relu_by_{by}")
    for _ in range(2):
        layers(3, relu, 400, 256)[1]().backward()  # compile first
    peaks = []
    for depth in (4, 12):
        _, loss = layers(depth, relu, 400, 256)
        tracemalloc.start()
        loss().backward()
        peaks.append(tracemalloc.get_traced_memory()[1] / (400 * 256 * 4))
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 8 == pytest.approx(per_layer, abs=0.1)
    assert peaks[1] < 12 * per_layer + 4


def test_nothing_is_kept_without_recording():
    _, loss = layers(12, ag.tanh, 400, 256)
    with dn.no_grad():
        loss()
        tracemalloc.start()
        loss()
        peak = tracemalloc.get_traced_memory()[1] / (400 * 256 * 4)
        tracemalloc.stop()
    assert peak < 3.5


def test_backpropagation_agrees_with_one_difference_per_weight():
    X = np.random.default_rng(0).standard_normal((6, 3))
    model = dn.MLP(3, [5, 4], 1, activation="tanh", rng=0, dtype=np.float64)
    weights = [p.numpy().copy() for p in model.parameters()]

    def loss(*parameters):
        h = dn.Tensor(X)
        for k in range(0, len(parameters), 2):
            h = h @ parameters[k] + parameters[k + 1]
            h = ag.tanh(h) if k < len(parameters) - 2 else h
        return ag.square(h).mean()

    ag.square(model(dn.Tensor(X))).mean().backward()
    assert ag.grad_check(loss, *weights)
    for p, g in zip(model.parameters(), ag.grad(loss, argnums=tuple(range(len(weights))))(*weights), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), g.numpy(), rtol=1e-10, atol=1e-14)


# ---- gradient descent


def test_descent_on_a_quadratic_is_a_power_and_breaks_at_two_over_the_largest_eigenvalue():
    descend = defined("descend")["descend"]
    rng = np.random.default_rng(5)
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    eigenvalues = np.array([0.5, 1.0, 3.0, 8.0])
    H = dn.Tensor(Q @ np.diag(eigenvalues) @ Q.T)
    x0 = Q @ np.ones(4)
    for share in (0.3, 0.9, 0.98, 1.02):
        lr = share * 2 / 8.0
        path = descend(lambda x: 0.5 * (x @ (H @ x)), x0, lr, 300)
        exact = (1 - lr * eigenvalues) ** np.arange(301)[:, None]
        np.testing.assert_allclose(path @ Q, exact, atol=1e-10 * np.abs(exact).max())
        assert (np.linalg.norm(path[-1]) < np.linalg.norm(x0)) == (share < 1)


def test_different_starts_end_in_different_local_minima():
    space = defined("descend", "derivative", "bumpy")
    ends, value = space["ends"], lambda x: np.sin(3 * x) + 0.1 * x * x
    assert len(space["minima"]) >= 4
    for step in (-0.05, 0.05):
        assert (value(ends) < value(ends + step)).all()             # each end is a local minimum
    assert value(ends).max() - value(ends).min() > 1                # and not all are equally good


def test_descent_stays_on_a_saddle_only_when_it_starts_on_the_ridge():
    space = defined("descend", "saddle")
    end = space["descend"](space["saddle"], np.array([1.0, -1e-6]), lr=0.1, steps=200)[-1]
    np.testing.assert_allclose(end, [0, -np.sqrt(0.5)], atol=1e-9)


# ---- the page


NEEDS = {
    "check_hand": ("Scalar", "in_order", "backward"), "check_paths": ("Scalar", "in_order", "backward", "push", "ladder"),
    "check_scalar_tanh": ("Scalar", "in_order", "backward"), "check_center": ("jacobian",), "check_softplus": ("tape",),
    "check_largest_rate": ("descend", "hvp"),
}
WRONG = [
    ("check_hand", (-3, 6, -3)),
    ("check_paths", lambda root, leaf: 1),
    ("check_scalar_tanh", lambda node: node),
    ("check_center", lambda g: g - g.mean(axis=1, keepdims=True)),
    ("check_softplus", lambda x: ag.log1p(ag.exp(x))),
    ("check_complex_step", lambda f, x: (f(x + 1e-8) - f(x)) / 1e-8),
    ("check_hvp", lambda f, x, v: ag.grad(f)(x + v) - ag.grad(f)(x)),
    ("check_largest_rate", lambda f, x: 0.4),
    ("check_checkpoint", lambda f, x: f(x) + 0.0 * x),
]


def space_of(check):
    return defined(*NEEDS.get(check, ()))


@pytest.mark.parametrize("check, wrong", WRONG, ids=[check for check, _ in WRONG])
def test_a_wrong_answer_does_not_pass(check, wrong):
    space = space_of(check)
    exec(next(source for source in cells("code") if f"def {check}(" in source), space)
    asserts.test_fail(space[check], args=wrong if isinstance(wrong, tuple) else (wrong,))


def paths_by_memory(root, leaf):
    known = {}
    for node in [leaf, *sorted_below(root)]:                        # sources before those that use them
        known[node] = (node is leaf) + sum(known.get(source, 0) for source, _ in node.sources) * (node is not leaf)
    return known[root]


def sorted_below(root):
    order, stack, seen = [], [(root, False)], set()
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack += [(node, True), *((source, False) for source, _ in node.sources)]
    return order


OTHER_RIGHT = [
    ("check_hand", (-3, 7, -3.0)), ("check_paths", paths_by_memory),
    ("check_center", lambda g: (np.eye(len(g)) - 1 / len(g)) @ g), ("check_complex_step", lambda f, x: f(x + 1e-100j).imag * 1e100),
]


@pytest.mark.parametrize("check, answer", OTHER_RIGHT, ids=[check for check, _ in OTHER_RIGHT])
def test_a_right_answer_that_is_not_the_books_is_accepted(check, answer):
    space = space_of(check)
    exec(next(source for source in cells("code") if f"def {check}(" in source), space)
    space[check](*answer if isinstance(answer, tuple) else (answer,))


@checked("02_backprop")
def test_the_skeleton_is_refused_and_the_solution_accepted(exercise):
    space = space_of(exercise.call.partition("(")[0])
    if exercise.label == "ex-02-rate":                              # it builds on the solution before it
        space["hvp"] = lambda f, x, v: ag.grad(lambda x: (ag.grad(f)(x) * dn.Tensor(v)).sum())(x)
    try_exercise(exercise, space)


def is_export(source):
    return source.startswith("#| export")


@pytest.mark.parametrize("page", ["operations", "contraction", "gradients", "checking"])
def test_every_exported_cell_is_followed_by_a_check(page):
    code = cells("code", f"library/autograd/{page}")
    for source, after in zip(code, [*code[1:], ""], strict=True):
        if is_export(source) and re.search(r"^(def|class) [a-zA-Z]|^\w+ = elementwise_op", source, re.M):
            assert re.search(r"assert|test_eq|test_close|test_fail", after), f"no check after the cell: {source[:80]!r}"
            assert not is_export(after), source[:80]


def test_rhythm_of_the_chapter():
    shown = [s for s in cells("code") if not re.search(r"^#\| (export|hide|default_exp|code-fold)", s, re.M)]
    lengths = [len([line for line in s.splitlines() if line.strip()]) for s in shown]
    assert np.median(lengths) <= 6 and np.mean(np.array(lengths) < 16) >= 0.9
