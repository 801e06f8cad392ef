"""What the chapter Initialization claims, measured again; and its exercises' checks, which must refuse wrong answers."""

import math

import numpy as np
import pytest
from book_helpers import checked, code_cells, try_exercise

from deepnotes import initialization as init
from deepnotes.autograd import Tensor
from deepnotes.layers import MLP
from deepnotes.optimizers import SGD
from deepnotes.outputs import cross_entropy
from deepnotes.training import Trainer


def singular_values(W):
    return np.sqrt(np.maximum(np.linalg.eigvalsh(W.T @ W), 0.0))


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_units_stay_equal_bit_for_bit(value):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 5)), rng.integers(0, 3, 100)
    model = MLP(5, [7, 6], 3, activation="tanh",
                weight_init=lambda shape, rng, dtype: init.constant(shape, value, dtype=dtype), rng=0)
    before = model.state_dict()
    Trainer(model).fit(X, y, epochs=5, progress=False)
    for name, p in model.named_parameters():
        if name.startswith(("0", "2")):                             # the hidden layers
            assert (p.data == p.data[..., :1]).all(), name
    assert any(not np.array_equal(before[name], p.data) for name, p in model.named_parameters())    # it did train


@pytest.mark.parametrize("rule, known", [
    (lambda rng: init.xavier_uniform((1000, 1000), rng=rng, dtype="float64"), 0.849),
    (lambda rng: init.uniform((1000, 1000), -1000**-0.5, 1000**-0.5, rng=rng, dtype="float64"), 0.490),
])
def test_mean_singular_values_of_glorot_and_bengio(rule, known):
    measured = singular_values(rule(0)).mean()
    assert abs(measured - known) < 0.003
    assert abs(known - 8 / (3 * math.pi) * (1 if known > 0.8 else 3**-0.5)) < 0.0005


def test_he_keeps_the_second_moment_over_thirty_layers_and_xavier_halves_it():
    def growth(rule, width=256, depth=30):
        rng = np.random.default_rng(0)
        h = rng.normal(size=(200, width))
        before = np.mean(h**2)
        for _ in range(depth):
            h = np.maximum(h @ rule((width, width), rng=rng, dtype="float64"), 0)
        return (np.mean(h**2) / before) ** (1 / depth)

    # One layer's factor has a relative variance of about 5/width: E[relu(z)^4]/E[relu(z)^2]^2 - 1 = 5. Over 30 layers the
    # geometric mean's standard error is sqrt(5/256/30) = 0.026 of it; four of them.
    assert abs(growth(init.he_normal) - 1) < 4 * 0.026
    assert abs(growth(init.xavier_normal) - 0.5) < 4 * 0.026 * 0.5
    assert growth(init.normal) < 0.02


def test_thirty_layers_train_with_he_and_stall_with_xavier():
    from deepnotes.datasets import load_digits, standardize

    X, y = load_digits()
    X, y = standardize(X)[:700], y[:700]

    def losses(rule, seed=0):
        model = MLP(64, [32] * 30, 10, weight_init=rule, rng=seed)
        optimizer, rng, out = SGD(model.parameters(), lr=0.01, momentum=0.9), np.random.default_rng(0), []
        for _ in range(12):
            for batch in np.split(rng.permutation(700), 7):
                loss = cross_entropy(model(Tensor(X[batch])), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                out.append(loss.item())
        return np.mean(out[-7:])

    # Thirty layers amplify the last bit: one run's loss is not the same on every machine, the median of three is steady.
    assert np.median([losses(init.he_normal, seed) for seed in range(3)]) < 2.2
    assert abs(losses(init.xavier_normal) - math.log(10)) < 0.01


def test_products_of_a_hundred_matrices():
    def product(rule, n=64):
        rng, P = np.random.default_rng(0), np.eye(n)
        for _ in range(100):
            P = P @ rule((n, n), rng=rng, dtype="float64")
        return np.linalg.svd(P, compute_uv=False)

    np.testing.assert_allclose(product(init.orthogonal), 1.0, atol=100 * 64 * np.finfo(float).eps)
    s = product(init.lecun_normal)
    assert s[12] < 1e-3 * s[0] and s[-1] < 1e-10


def test_selu_pulls_mean_and_variance_to_its_fixed_point():
    rng = np.random.default_rng(0)
    h, means, variances = rng.normal(0.5, 1.5, size=(200, 200)), [], []
    for _ in range(100):
        h = init._FORMULAS["selu"](h @ init.lecun_normal((200, 200), rng=rng, dtype="float64"))
        means.append(h.mean())
        variances.append(h.var())
    # A layer's variance has standard error about sqrt(2/200) = 0.1, correlated over a few layers: 0.05 after 50 layers' mean
    assert abs(np.mean(means[50:])) < 0.05
    assert abs(np.mean(variances[50:]) - 1) < 0.15


@pytest.fixture(scope="module")
def experiments():
    "Functions of the chapter's experiments, defined from its own cells."
    space = {"np": np, "Tensor": Tensor, **{name: getattr(init, name) for name in init.__all__}}
    for name in ("def steps_to_learn", "def same_orientation", "def start_many"):
        (cell,) = [c for c in code_cells("05_initialization") if name in c]
        exec(cell.split("\n\n\ndepths =")[0].split("\n\n\nsame =")[0], space)
    return space


RATES = (0.06, 0.25, 1.0)


def test_orthogonal_learning_time_does_not_depend_on_depth_in_wide_networks_and_does_in_narrow_ones(experiments):
    def steps(rule, width, depth):
        return np.median(experiments["steps_to_learn"](rule, depth, width, RATES, range(5)))

    assert steps(init.orthogonal, 64, 24) <= steps(init.orthogonal, 64, 2) + 2
    assert steps(init.lecun_normal, 64, 24) >= 2 * steps(init.lecun_normal, 64, 2)
    assert steps(init.orthogonal, 4, 24) >= 4 * steps(init.orthogonal, 4, 2)


def test_in_narrow_networks_orientation_decides(experiments):
    "16 tasks at depth 16: none of the other orientation is learned in time, most of the same one are."
    same = np.array([experiments["same_orientation"](seed, depth=16) for seed in range(16)])
    learned = experiments["steps_to_learn"](init.orthogonal, 16, 4, RATES, range(16)) < 300
    assert 3 <= same.sum() <= 13
    assert not learned[~same].any() and learned[same].mean() > 0.5


def test_seeds_and_scales_on_xor(experiments):
    "A start too small stays at a guess; Xavier's scale solves XOR from at least 95 of 100 seeds; ten times as much from fewer."
    from deepnotes.outputs import binary_cross_entropy_with_logits

    x, y = Tensor(np.float32([[-1, -1], [-1, 1], [1, -1], [1, 1]])), np.float32([0, 1, 1, 0]).reshape(1, 4, 1)
    rules = [(lambda shape, f=f, **kw: init.xavier_normal(shape, f, **kw), s) for f in (0.01, 1.0, 10.0) for s in range(100)]
    params = experiments["start_many"](rules, [2, 4, 1])
    optimizer = SGD(params, lr=0.3)
    for _ in range(800):
        logits = (x @ params[0] + params[1]).tanh() @ params[2] + params[3]
        each = binary_cross_entropy_with_logits(logits, np.tile(y, (300, 1, 1)), reduction="none").mean((1, 2))
        optimizer.zero_grad()
        each.sum().backward()
        optimizer.step()
    small, xavier, large = (each.data.reshape(3, 100) > 0.3).sum(axis=1)
    assert small >= 95 and xavier <= 5 and large > xavier
    assert abs(np.median(each.data[:100]) - math.log(2)) < 0.01


def test_first_loss_is_the_entropy_of_the_frequencies():
    y = np.random.default_rng(0).choice(4, 1000, p=[0.7, 0.2, 0.09, 0.01])
    p = np.bincount(y) / 1000
    logits = Tensor(np.tile(init.output_bias(y, dtype="float64"), (1000, 1)))
    assert cross_entropy(logits, y).item() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-9)
    assert cross_entropy(Tensor(np.zeros((10, 10))), np.arange(10)).item() == pytest.approx(math.log(10), rel=1e-9)


def cells_with(*starts):
    "The chapter's cells that hold one of the texts, in its order."
    return [c for c in code_cells("05_initialization") if any(s in c for s in starts)]


@pytest.mark.parametrize("f, slope, mean_square_slope, s", [
    (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0), 0.5, 2**0.5),
    (lambda z: z, lambda z: np.ones_like(z), 1.0, 0.8),
])
def test_the_backward_equation(f, slope, mean_square_slope, s):
    "E[g²] one layer down is n_out σ² E[f'²] E[g²], whatever the number of inputs."
    rng, factors = np.random.default_rng(0), []
    for n_in, n_out in ((300, 200), (100, 400), (400, 100)) * 5:
        z, W, g = rng.normal(size=(200, n_in)), rng.normal(0, s / 20, (n_in, n_out)), rng.normal(size=(200, n_out))
        below = slope(z) * (g @ W.T)
        factors.append(np.mean(below**2) / np.mean(g**2) / (n_out * (s / 20) ** 2 * mean_square_slope))
    assert abs(np.mean(factors) - 1) < 0.02


def test_the_backward_equation_holds_in_a_deep_network_where_its_assumption_is_not_exact():
    space = {"np": np}
    exec(cells_with("def backward_factors")[0], space)
    for f, slope, s in ((lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0), 2**0.5), (np.tanh, lambda z: 1 - np.tanh(z) ** 2, 1.5)):
        measured, by_law = space["backward_factors"](f, slope, s, depth=15)
        assert abs(measured.mean() / by_law.mean() - 1) < 0.05
        assert np.prod(measured[:5] / by_law[:5]) == pytest.approx(1, abs=0.3)


def next_cosine(c):
    return (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / np.pi


def test_the_map_of_angles_is_the_mean_product_of_two_rectified_normals():
    t, w = np.polynomial.legendre.leggauss(200)
    for c in (-0.9, 0.0, 0.3, 0.95):
        theta = math.acos(c)
        half = (math.pi - theta) / 2                           # both are positive for an angle between theta - pi/2 and pi/2
        phi = theta / 2 + half * t
        product = 2 / (2 * math.pi) * half * np.sum(w * np.cos(phi) * np.cos(phi - theta))
        assert next_cosine(c) == pytest.approx(2 * product, abs=1e-12)


def test_cosines_approach_one_by_the_law_whatever_they_began_with():
    for start in (-0.9, 0.0, 0.5):
        c = [start]
        for _ in range(3000):
            c.append(next_cosine(c[-1]))
        if start == 0:
            np.testing.assert_allclose([c[k] for k in (1, 5, 10, 20, 30)], [0.318, 0.736, 0.872, 0.948, 0.972], atol=5e-4)
        assert (1 - c[-1]) * 3000**2 / (4.5 * np.pi**2) == pytest.approx(1, abs=0.02)


def test_he_keeps_lengths_and_loses_the_angles_of_digits_where_tanh_and_normalization_keep_them():
    from deepnotes.datasets import load_digits, standardize

    def run(layer, seed, depth=30, n=64):
        rng, h = np.random.default_rng(seed), standardize(load_digits().X[:300])
        for _ in range(depth):
            h = layer(h @ rng.normal(0, n**-0.5, (n, n)))
        unit = h / np.linalg.norm(h, axis=1, keepdims=True)
        return (np.sum(unit.sum(0) ** 2) - 300) / 300 / 299, np.mean(h**2)

    relu = [run(lambda z: np.maximum(z * 2**0.5, 0), seed) for seed in range(5)]
    assert min(c for c, _ in relu) > 0.9 and 0.05 < np.median([q for _, q in relu]) < 20
    assert max(run(lambda z: np.tanh(init.gain("tanh") * z), seed)[0] for seed in range(5)) < 0.1
    assert all(abs(run(lambda z: np.maximum((z - z.mean(0)) / z.std(0), 0), seed)[0] - 0.34) < 0.06 for seed in range(5))


def test_from_an_orthogonal_start_small_steps_never_turn_the_determinant():
    "Gradient flow cannot pass a singular value through zero: the loss ends where the smallest one of the target is missing."
    for seed in range(6):
        rng = np.random.default_rng(seed)
        target = init.orthogonal((4, 4), rng=rng, dtype="float64") * [1.0, 0.8, 0.6, 0.4]
        W = [init.orthogonal((4, 4), rng=rng, dtype="float64") for _ in range(3)]
        sign = np.sign(np.linalg.det(W[0] @ W[1] @ W[2]))
        for _ in range(4000):
            g = W[0] @ W[1] @ W[2] - target
            steps = g @ (W[1] @ W[2]).T, W[0].T @ g @ W[2].T, (W[0] @ W[1]).T @ g
            W = [w - 0.02 * step for w, step in zip(W, steps, strict=True)]
        P = W[0] @ W[1] @ W[2]
        assert np.linalg.det(P) * sign > -1e-12               # it may come as near to 0 as rounding lets it
        same = sign == np.sign(np.linalg.det(target))
        assert np.sum((P - target) ** 2) == pytest.approx(0.0 if same else 0.4**2, abs=5e-3)


def test_bent_paths_join_what_straight_lines_separate():
    from deepnotes.activations import sigmoid, tanh
    from deepnotes.optimizers import Adam

    space = {"np": np, "Tensor": Tensor, "Adam": Adam, "SGD": SGD, "sigmoid_op": sigmoid, "tanh_op": tanh}
    exec("from deepnotes.datasets import make_moons, standardize\n"
         "from deepnotes.initialization import *\nfrom deepnotes.outputs import *", space)
    for cell in cells_with("def start_many", "def nudged", "def on_curve", "bent_path = moons_loss"):
        exec(cell.replace("range(1, 11)", "range(1, 4)"), space)
    straight, bent = space["straight"][:, 1:], space["bent_path"][:, 1:]
    assert straight.shape == (61, 3) and straight[[0, -1]].max() < 0.002
    assert straight.max(0).min() > 0.1 and bent.max() < 0.02
    np.testing.assert_allclose(bent[[0, -1]], straight[[0, -1]], rtol=1e-4)         # the ends did not move


def test_a_network_is_as_far_from_itself_as_from_others_and_matching_names_brings_them_near():
    from deepnotes.activations import sigmoid, tanh
    from deepnotes.comparing import paired

    space = {"np": np, "Tensor": Tensor, "SGD": SGD, "sigmoid_op": sigmoid, "tanh_op": tanh, "paired": paired}
    exec("from deepnotes.datasets import make_moons, standardize\n"
         "from deepnotes.initialization import *\nfrom deepnotes.outputs import *", space)
    for cell in cells_with("def start_many", "def nudged", "def on_curve", "def rename", "copies = []", "def match"):
        fewer = cell.replace("range(1, 11)", "range(31, 37)").replace("(plain, 0), (nudged, 0)", "(plain, 30), (nudged, 30)")
        exec(fewer.replace("range(12)", "range(8)").replace("* 10,", "* 6,"), space)
    before, after, selves = space["apart_before"], space["apart_after"], space["selves"]
    assert len(before) == len(after) == len(selves) == 6
    assert selves.min() > 0.05 and np.median(selves) > 0.3 * np.median(before)
    assert (after < before).sum() >= 5 and np.median(after) < 0.5 * np.median(before)
    x = np.linspace(-1, 1, 14, dtype="float32").reshape(7, 2)       # a name changes nothing that is computed
    answers = [space["run_many"]([Tensor(np.float32(w)) for w in net], Tensor(x), tanh).data
               for net in (space["nets"][0], space["copies"][0], space["others"][0], space["aligned"][0])]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(answers[2], answers[3], rtol=1e-3, atol=1e-4)


def test_the_gain_that_the_gradient_asks_for_trains_ten_sigmoid_layers():
    from deepnotes.datasets import load_digits, standardize

    space = {"np": np, "Tensor": Tensor, "load_digits": load_digits, "standardize": standardize}
    space |= {name: getattr(init, name) for name in init.__all__}
    for cell in cells_with("def start_many", "def errors_after_training", "def with_gain"):
        exec(cell.replace("range(10)", "range(3)").split("rescued =")[0].replace("(10 * cross", "(3 * cross"), space)
    trained, stuck = (space["errors_after_training"](*space["starts"][f"sigmoid, {side} gain"], 0.01)[0]
                      for side in ("backward", "forward"))
    assert np.median(trained) < 0.15 and stuck.min() > 0.5


def test_ten_seconds_tell_four_starts_apart():
    from deepnotes.datasets import load_digits, standardize

    space = {"np": np, "Tensor": Tensor, "cross_entropy": cross_entropy, "MLP": MLP, "normal": init.normal, "digits": load_digits()}
    space |= {"images": standardize(space["digits"].X[:1400]), "labels": space["digits"].y[:1400]}
    for cell in cells_with("def first_look", "def ten_layers"):
        exec(cell, space)
    fine, small, large, raw = space["look"].values()
    assert 2 < fine[0] < 5 and small[0] == pytest.approx(math.log(10), abs=1e-4) and large[0] > 20 and raw[0] > 5
    assert fine[1][-1] == pytest.approx(1, abs=0.9) and small[1][-1] < 1e-6 and large[1][-1] > 50 * large[1][0]
    assert raw[1][0] > 5 and raw[1][-1] < 3 * raw[1][0]


def test_the_gain_of_a_function_that_grows_nearly_as_fast_as_the_normal_density_falls():
    assert init.gain(lambda z: np.exp(z * z / 4.2)) == pytest.approx(21**-0.25, rel=1e-11)      # E[exp(z²/2.1)] = √21


# Exercises: each check takes the right answer and refuses several wrong ones.

@pytest.fixture(scope="module")
def space():
    from deepnotes.activations import tanh

    space = {"np": np, "Tensor": Tensor, "tanh_op": tanh, "normal_mean": init._normal_mean,
             **{name: getattr(init, name) for name in init.__all__}}
    for cell in code_cells("05_initialization"):
        if "\ndef check_" in cell:
            exec(cell, space)
    return space


@checked("05_initialization")
def test_the_skeleton_is_refused_and_the_solution_accepted(space, exercise):
    try_exercise(exercise, dict(space))


def one_seed(n, rng):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]


WRONG = [
    ("check_variance", 0.25), ("check_variance", 0.75), ("check_bound", 0.1155), ("check_bound", 0.25),
    ("check_clip_gain", 1.0), ("check_clip_gain", 1.39),
    ("check_orthogonal", lambda n, rng: np.eye(n)),
    ("check_orthogonal", one_seed),
    ("check_orthogonal", lambda n, rng: np.linalg.qr(rng.normal(size=(n, n)))[0]),             # numpy's signs
    ("check_symmetry", lambda rng: (rng.normal(size=(2, 6)), np.zeros(6), np.ones((6, 1)), np.zeros(1))),
    ("check_symmetry", lambda rng: (np.ones((2, 6)), np.ones(6), np.ones((6, 1)), np.zeros(1))),
    ("check_normalized_softplus", lambda z: (z - 0.0) * 1.0),                                  # normalized, no softplus
    ("check_normalized_softplus", lambda z: 1.5 * (np.logaddexp(0, z) - 0.806)),
    ("check_positives", lambda share: share), ("check_positives", lambda share: np.log((1 - share) / share)),
    ("check_branch", lambda blocks: (math.log(2) / blocks) ** 0.5), ("check_branch", lambda blocks: 0.0),
    ("check_jacobian", lambda rule, activation, depth: 30.0), ("check_jacobian", lambda rule, activation, depth: 1.0 + depth / 10),
]


@pytest.mark.parametrize("check, wrong", WRONG)
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError, match=" "):
        space[check](wrong)
