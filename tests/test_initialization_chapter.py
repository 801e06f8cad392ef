"""What the chapter Initialization claims, measured again; and its exercises' checks, which must refuse wrong answers."""

import math

import numpy as np
import pytest
from book_helpers import code_cells

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


# Exercises: each check takes the right answer and refuses several wrong ones.

@pytest.fixture(scope="module")
def space():
    from deepnotes.activations import tanh

    space = {"np": np, "Tensor": Tensor, "tanh_op": tanh, "_normal_mean": init._normal_mean,
             **{name: getattr(init, name) for name in init.__all__}}
    (cell,) = [c for c in code_cells("05_initialization") if "def check_variance" in c]
    exec(cell, space)
    return space


def test_the_chapters_own_solutions_pass_and_its_skeletons_fail(space):
    skeletons = {"check_variance": "output_variance", "check_bound": "bound", "check_symmetry": "my_start",
                 "check_orthogonal": "my_orthogonal", "check_clip_gain": "clip_gain", "check_jacobian": "my_spread",
                 "check_normalized_softplus": "my_softplus", "check_positives": "my_bias", "check_branch": "my_scale"}
    cells, names, solved = code_cells("05_initialization"), dict(space), set()
    for cell in cells:
        if any(cell.startswith((f"{name} =", f"def {name}(")) for name in skeletons.values()):
            exec(cell, names)
        elif "\ncheck_" in "\n" + cell:
            exec(cell, names)
            solved |= {name for name in skeletons if f"{name}(" in cell}
    assert solved == set(skeletons)
    for check, skeleton in skeletons.items():
        with pytest.raises(AssertionError):
            names[check](names[skeleton])


def one_seed(n, rng):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]


@pytest.mark.parametrize("check, wrong", [
    ("check_variance", 0.25), ("check_bound", 0.1155), ("check_clip_gain", 1.0), ("check_clip_gain", 1.39),
    ("check_orthogonal", lambda n, rng: np.eye(n)),
    ("check_orthogonal", one_seed),
    ("check_orthogonal", lambda n, rng: np.linalg.qr(rng.normal(size=(n, n)))[0]),             # numpy's signs
    ("check_symmetry", lambda rng: (rng.normal(size=(2, 6)), np.zeros(6), np.ones((6, 1)), np.zeros(1))),
    ("check_symmetry", lambda rng: (np.ones((2, 6)), np.ones(6), np.ones((6, 1)), np.zeros(1))),
    ("check_normalized_softplus", lambda z: (z - 0.0) * 1.0),                                  # normalized, no softplus
    ("check_normalized_softplus", lambda z: 1.5 * (np.logaddexp(0, z) - 0.806)),
    ("check_positives", lambda share: share), ("check_branch", lambda blocks: (math.log(2) / blocks) ** 0.5),
    ("check_branch", lambda blocks: 0.0), ("check_jacobian", lambda rule, activation, depth: 30.0),
])
def test_checks_refuse_wrong_answers(space, check, wrong):
    with pytest.raises(AssertionError):
        space[check](wrong)
