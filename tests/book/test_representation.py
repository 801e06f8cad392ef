"""Chapter 1's claims: each experiment's known answer fails here if it stops being true."""

import json
import re

import numpy as np
import pytest
from book_helpers import ROOT, checked, try_exercise

import deepnotes as dn
from deepnotes import datasets as ds
from deepnotes import plotting
from deepnotes.optimizers import Adam

NOTEBOOK = ROOT / "nbs" / "01_representation.ipynb"
X_XOR, Y_XOR = ds.make_xor()


def train(X, y, hidden, outputs, activation="relu", loss="cross_entropy", lr=0.01, epochs=100, batch_size=32, seed=0):
    model = dn.MLP(X.shape[1], hidden, outputs, activation=activation, rng=seed)
    trainer = dn.Trainer(model, loss, Adam(model.parameters(), lr=lr), seed=seed)
    trainer.fit(X, y, epochs=epochs, batch_size=batch_size, progress=False)
    return trainer


def hidden_layers(model):
    def layer(i):
        return lambda h: model[i + 1](model[i](dn.Tensor(h))).detach().numpy()

    return [layer(i) for i in range(0, len(model) - 1, 2)]


# ---- exclusive or


def test_best_line_for_xor_says_one_half():
    design = np.column_stack([X_XOR, np.ones(4)])
    solution = np.linalg.lstsq(design, Y_XOR, rcond=None)[0]
    np.testing.assert_allclose(solution, [0, 0, 0.5], atol=1e-12)
    assert np.mean((design @ solution - Y_XOR) ** 2) == pytest.approx(0.25, abs=1e-12)


def test_no_line_separates_xor():
    rng = np.random.default_rng(0)                      # any affine f has equal sums over the two diagonals
    values = X_XOR @ rng.normal(size=(2, 1000)) + rng.normal(size=1000)
    np.testing.assert_allclose(values[0] + values[3], values[1] + values[2], atol=1e-5)
    assert not ((values > 0.5) == Y_XOR[:, None]).all(axis=0).any()


def test_a_trained_linear_network_ends_there_too():
    trainer = train(X_XOR, Y_XOR[:, None].astype(np.float32), [], 1, loss="mse_loss", lr=0.05, epochs=300, batch_size=4)
    assert trainer.evaluate(X_XOR, Y_XOR[:, None])["loss"] == pytest.approx(0.25, abs=1e-4)
    np.testing.assert_allclose(trainer.predict(X_XOR), 0.5, atol=0.02)


def test_two_relus_by_hand_solve_xor():
    h = np.maximum(0, X_XOR @ [[1, 1], [1, 1]] + [0, -1])
    assert h.tolist() == [[0, 0], [1, 0], [1, 0], [2, 1]] and (h @ [1, -2] == Y_XOR).all()


def xor_losses(hidden, activation):
    targets = Y_XOR[:, None].astype(np.float32)
    return np.array([train(X_XOR, targets, hidden, 1, activation, "mse_loss", lr=0.1, epochs=150, batch_size=4, seed=s)
                     .evaluate(X_XOR, targets)["loss"] for s in range(20)])


def test_eight_tanh_units_learn_xor_from_19_of_20_starts():
    assert (xor_losses([8], "tanh") < 0.01).sum() >= 19


def test_two_relus_get_stuck_at_the_values_that_can_be_computed():
    losses = xor_losses([2], "relu")
    stuck = losses[losses >= 0.01]
    assert len(stuck) >= 10
    distance = np.abs(stuck[:, None] - [1 / 4, 1 / 6, 1 / 8]).min(axis=1)
    assert np.median(distance) < 1e-3                   # the others have not arrived yet


# ---- folding


def test_a_line_separates_the_spirals_after_the_last_hidden_layer_and_not_before():
    def line_accuracy(H):
        design = np.column_stack([H, np.ones(len(H))])
        return np.mean((design @ np.linalg.lstsq(design, 2.0 * y - 1, rcond=None)[0] > 0) == y)

    X, y = ds.make_spirals(300, turns=1.25, rng=0)
    net = train(X, y, [16, 16, 2], 2, "tanh", lr=0.02, epochs=150, batch_size=30)
    H = X
    for layer in hidden_layers(net.model):
        H = layer(H)
    assert net.score(X, y) > 0.98 and line_accuracy(X) < 0.75 and line_accuracy(H) > 0.98


# ---- probes


def test_probes_by_depth():
    """With three labels per class, trained layers beat pixels and random layers lose to them."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    data, held_out = ds.load_digits().split(rng=0, stratify=True)
    few = np.concatenate([np.flatnonzero(data.y == k)[:3] for k in range(10)])

    def probe(H, H_test):
        scale = H.std()                                 # one number: thirty rows cannot tell a border pixel's spread
        return linear_model.LogisticRegression(max_iter=200).fit(H[few] / scale, data.y[few]).score(H_test / scale, held_out.y)

    def by_depth(model):
        H, H_test = data.X / 16, held_out.X / 16
        scores = [probe(H, H_test)]
        for layer in hidden_layers(model):
            H, H_test = layer(H), layer(H_test)
            scores.append(probe(H, H_test))
        return scores

    trained = by_depth(train(data.X / 16, data.y, [32] * 4, 10, lr=0.003, epochs=25).model)
    untrained = by_depth(dn.MLP(64, [32] * 4, 10, rng=0))
    assert trained[-1] > trained[0] + 0.08 and untrained[-1] < untrained[0] - 0.1
    assert trained[0] == untrained[0]                   # the same pixels


def test_stacking_organizes_where_width_does_not():
    """The control of the chapter's second claim: paired over splits and draws, each side from the same seeds."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    shapes = {"narrow": [32], "wide": [128], "stack": [32] * 4}
    accuracy = {name: [] for name in shapes}
    for split in range(3):
        data, held_out = ds.load_digits().split(test_size=0.25, rng=split, stratify=True)
        draws = [np.concatenate([np.random.default_rng(draw).permutation(np.flatnonzero(data.y == k))[:3]
                                 for k in range(10)]) for draw in range(4)]
        for name, shape in shapes.items():
            H, H_test = data.X / 16, held_out.X / 16
            for layer in hidden_layers(train(H, data.y, shape, 10, lr=0.003, epochs=25, seed=split).model):
                H, H_test = layer(H), layer(H_test)
            H, H_test = H / H.std(), H_test / H.std()
            accuracy[name].append([linear_model.LogisticRegression(max_iter=200, tol=1e-3).fit(H[few], data.y[few])
                                   .score(H_test, held_out.y) for few in draws])
    narrow, wide, stack = (np.array(accuracy[name]) for name in shapes)
    assert (stack - narrow).mean() > 0.015 and (stack > narrow).sum() >= 10        # of 12 pairs
    assert (stack - wide).mean() > 0.015 and (wide - narrow).mean() < 0.015


def test_one_hidden_layer_of_relus_separates_the_spirals_too():
    X, y = ds.make_spirals(300, turns=1.25, rng=0)
    assert all(train(X, y, [16], 2, lr=0.02, epochs=150, batch_size=30, seed=s).score(X, y) > 0.97 for s in range(3))


def test_at_the_larger_rate_three_tanh_layers_do_what_one_does_not():
    X, y = ds.make_spirals(300, turns=1.25, rng=0)

    def fitted(shape, lr):
        return sum(train(X, y, shape, 2, "tanh", lr=lr, epochs=100, batch_size=60, seed=s).score(X, y) > 0.9
                   for s in range(10))

    assert fitted([48], 0.05) == 0 and fitted([9, 9, 9], 0.05) >= fitted([9, 9, 9], 0.02) + 3


# ---- depth


def tent_network(depth):
    first = np.array([[1.0, 1.0]]), np.array([0.0, -0.5])
    middle = np.array([[2.0, 2.0], [-4.0, -4.0]]), np.array([0.0, -0.5])
    last = np.array([[2.0], [-4.0]]), np.array([0.0])
    return [first] + [middle] * (depth - 1) + [last]


@pytest.mark.parametrize("depth", range(1, 11))
def test_tents_have_two_to_the_depth_pieces_from_six_depth_plus_one_parameters(depth):
    network = tent_network(depth)
    x = np.arange(2 ** (depth + 2) + 1) / 2 ** (depth + 2)
    h = x[:, None]
    for W, b in network[:-1]:
        h = np.maximum(0, h @ W + b)
    y = (h @ network[-1][0])[:, 0]
    assert (y == ds.sawtooth(x, depth)).all()
    assert 1 + np.count_nonzero(np.diff(y, 2)) == 2**depth
    assert sum(W.size + b.size for W, b in network) == 6 * depth + 1


@pytest.mark.parametrize("units", [1, 5, 20])
def test_one_hidden_layer_has_at_most_one_piece_more_than_units(units):
    rng = np.random.default_rng(units)
    for _ in range(20):
        slope, bias, out = rng.normal(size=(3, units))
        kinks = np.sort(-bias / slope)
        between = np.concatenate([[kinks[0] - 1], (kinks[1:] + kinks[:-1]) / 2, [kinks[-1] + 1]])
        gradients = ((between[:, None] * slope + bias > 0) * slope * out).sum(axis=1)
        assert 1 + np.count_nonzero(np.abs(np.diff(gradients)) > 1e-12) <= units + 1


def test_one_layer_of_relus_connects_the_points_of_a_wave_with_the_error_of_the_law():
    space = {"np": np, "test_close": lambda *_, **__: None}
    exec(next(source for source in cells("code") if "def connect" in source), space)
    kinks = np.linspace(0, 1, 9)
    bent = space["connect"](np.exp, 8)
    np.testing.assert_allclose(bent(kinks), np.exp(kinks), rtol=1e-12)
    np.testing.assert_allclose(bent((kinks[1:] + kinks[:-1]) / 2), (np.exp(kinks[1:]) + np.exp(kinks[:-1])) / 2, rtol=1e-12)
    # sin 2 pi x, largest error of the piecewise linear interpolant, worked out at the places where its slope is the line's
    known = {8: 0.0704, 16: 0.0189, 32: 0.0048, 64: 0.0012}
    for pieces, error in space["wave_error"].items():
        assert error == pytest.approx(known[pieces], abs=6e-5)


def test_training_does_not_find_the_sawtooth_that_it_could_represent():
    saw = ds.make_sawtooth(depth=4)
    losses = [train(4 * saw.X - 2, saw.y, [7] * 4, 1, loss="mse_loss", epochs=100, batch_size=64, seed=s)
              .history["loss"][-1] for s in range(3)]
    assert saw.y.var() == pytest.approx(1 / 12, abs=0.002) and min(losses) > 0.02


# ---- capacity


def test_random_labels_are_fitted_and_test_at_chance():
    """Zhang et al. (2017). The mean of three runs over 1,397 images: chance is 0.1.

    Images that look alike are answered alike, so a run's standard deviation is nearer that of a few hundred
    independent answers, sqrt(0.09 / 300) = 0.017; four of them for the mean of three runs are 0.04.
    """
    digits = ds.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    images, rest = digits.take(order[:400]), digits.take(order[400:])
    fitted, tested = [], []
    for seed in range(3):
        labels = ds.randomize_labels(images.y, rng=seed)
        t = train(images.X / 16, labels, [512], 10, lr=0.005, epochs=60, batch_size=50, seed=seed)
        fitted.append(t.score(images.X / 16, labels))
        tested.append(t.score(rest.X / 16, rest.y))
    assert min(fitted) > 0.98 and abs(np.mean(tested) - 0.1) < 0.04
    t = train(images.X / 16, images.y, [512], 10, lr=0.005, epochs=20, batch_size=50)
    assert t.score(rest.X / 16, rest.y) > 0.9


def test_more_width_does_not_raise_the_test_error():
    digits = ds.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    small, rest = digits.take(order[:300]), digits.take(order[300:])
    error = {}
    for width in (2, 16, 256):
        runs = [train(small.X / 16, small.y, [width], 10, lr=0.02, epochs=40, batch_size=50, seed=s) for s in range(3)]
        error[width] = np.median([1 - t.score(rest.X / 16, rest.y) for t in runs])
    assert error[2] > error[16] + 0.1 and error[256] <= error[16] + 0.01


# ---- the chapter itself


def cells(kind):
    return ["".join(c["source"]) for c in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
            if c["cell_type"] == kind]


@checked("01_representation")
def test_the_skeleton_is_refused_and_the_solution_accepted(exercise):
    part = ds.load_digits().split(test_size=0.25, rng=0, stratify=True)
    space = {"np": np, "plotting": plotting, "train": train, "hidden_layers": hidden_layers, "train_part": part[0], "test_part": part[1],
             **{name: getattr(ds, name) for name in ("make_xor", "make_spirals", "standardize", "sawtooth")}}
    if exercise.label == "ex-01-probe":
        space["trained"] = [train(part[0].X / 16, part[0].y, [16] * 2, 10, epochs=2)]
    try_exercise(exercise, space)


FAR_APART = [[0.0]] * 9 + [[1e-3]], [[5.0]] * 4 + [[7.0]] * 6
OTHER_RIGHT = [
    ("check_one_unit", lambda X: np.where(np.abs(X.sum(axis=1) - 1) < 0.25, 1.0, 0.0)),             # the sum and a bump
    ("check_parity", (2 * np.ones((3, 3)), [-4, 0, -2], [1, 0.5, -1])), ("check_leak", FAR_APART),
    ("check_fold3", (lambda x: np.abs(1 - np.abs(2 - 3 * x)), lambda L: 3**L)),                       # from 1 down to 0
    ("check_sigma", 0.8),
]


@pytest.mark.parametrize("check, answer", OTHER_RIGHT, ids=[check for check, _ in OTHER_RIGHT])
def test_a_right_answer_that_is_not_the_books_is_accepted(check, answer):
    space = {"np": np, **{name: getattr(ds, name) for name in ("make_xor", "standardize", "sawtooth")}}
    exec(next(cell for cell in cells("code") if f"def {check}(" in cell), space)
    space[check](*answer if isinstance(answer, tuple) else (answer,))


def test_every_number_that_the_text_shows_is_glued_by_a_cell():
    shown = set(re.findall(r"\{glue:text\}`(01\.\w+)", "\n".join(cells("markdown"))))
    code = "\n".join(cells("code"))
    glued = set(re.findall(r'glue\("(01\.\w+)"', code)) | {"01.solved_" + k for k in ("2_relu", "2_tanh", "8_tanh")}
    glued |= {f"01.depth_{k}_{speed}" for k in ("wide", "two", "three") for speed in ("slow", "fast")}
    glued |= {f"01.stack_{k}{end}" for k in ("one", "wide", "two", "four", "six") for end in ("", "_won")}
    glued |= {"01.stack_pixels", "01.stack_pca"}
    glued |= {"01." + k for k in re.findall(r'"(true_\w+|random_\w+|epochs_\w+)": ', code)}
    assert shown and shown <= glued, shown - glued


def test_every_figure_has_a_text_for_those_who_cannot_see_it():
    for source in cells("code"):
        if re.search(r"^#\| (label: fig|fig-cap)", source, re.M):
            assert "#| fig-alt:" in source, source[:80]
