"""Estimators: what scikit-learn asks of any, what its documentation says of its own of these names, and what ours have beyond."""
import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits, make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from deepnotes import layers, optimizers, schedules
from deepnotes.estimators import MLPClassifier, MLPRegressor

BOTH = [MLPClassifier, MLPRegressor]


def lines(rows=60, features=4, seed=0):
    """Inputs and a straight line through them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features))
    return X, X @ np.arange(1.0, features + 1) / features


def classes(rows=90, kinds=3, seed=0):
    """Inputs in well separated heaps, and their numbers."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % kinds
    return rng.normal(size=(rows, 4)) * 0.4 + 3 * np.eye(kinds, 4)[y], y


def data_for(kind):
    return classes() if kind is MLPClassifier else lines()


def quick(kind, **given):
    return kind(**{"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0, "tol": 0, **given})


@pytest.fixture(autouse=True)
def not_converged_is_no_matter():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_what_scikit_learn_asks_of_any_estimator(estimator, check):
    check(estimator)


# ── What scikit-learn's documentation says of these parameters and attributes ────────────────────────────────────────


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu", "gelu", layers.SiLU])
def test_activations_by_scikit_learns_names_and_by_ours(activation):
    X, y = classes()
    assert quick(MLPClassifier, activation=activation, max_iter=60, learning_rate_init=0.03).fit(X, y).score(X, y) > 0.95


def test_the_identity_makes_a_linear_model():
    X, y = lines()
    net = quick(MLPRegressor, activation="identity", hidden_layer_sizes=(3, 2)).fit(X, y)
    weight, shift = np.eye(4), np.zeros(4)
    for w, b in zip(net.coefs_, net.intercepts_, strict=True):
        weight, shift = weight @ w, shift @ w + b
    np.testing.assert_allclose(net.predict(X), (X @ weight + shift)[:, 0], rtol=1e-10)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam", "adamw", "rmsprop", "adagrad", optimizers.RMSprop])
def test_each_solver_learns_a_line(solver):
    X, y = lines()
    rate = {"sgd": 0.01, "adagrad": 0.1}.get(solver, 0.02)
    net = quick(MLPRegressor, solver=solver, learning_rate_init=rate, max_iter=200, batch_size=20)
    assert net.fit(X, y).score(X, y) > 0.97


def test_one_step_of_sgd_is_the_one_of_the_formula():
    """Gradient of the half squared error plus alpha over the rows of the batch times the weights, of the matrices alone."""
    X, y = lines(rows=10)
    given = dict(hidden_layer_sizes=(), solver="sgd", momentum=0.0, learning_rate_init=0.1, max_iter=1, alpha=3.0, shuffle=False)
    net = quick(MLPRegressor, **given).partial_fit(X, y)
    w, b = net.coefs_[0].copy(), net.intercepts_[0].copy()
    net.partial_fit(X, y)
    error = X @ w + b - y[:, None]
    np.testing.assert_allclose(net.coefs_[0], w - 0.1 * (X.T @ error / 10 + 3.0 / 10 * w), rtol=1e-10)
    np.testing.assert_allclose(net.intercepts_[0], b - 0.1 * error.mean(axis=0), rtol=1e-10)


def test_lbfgs_finds_ridge_regression():
    """The minimum of half the mean squared error and alpha / 2n times the squares, which linear algebra gives."""
    X, y = lines(rows=40)
    y = y + np.random.default_rng(1).normal(size=40)
    net = quick(MLPRegressor, hidden_layer_sizes=(), solver="lbfgs", alpha=5.0, max_iter=500, tol=1e-10).fit(X, y)
    centered = X - X.mean(axis=0)
    exact = np.linalg.solve(centered.T @ centered + 5.0 * np.eye(4), centered.T @ (y - y.mean()))
    np.testing.assert_allclose(net.coefs_[0][:, 0], exact, rtol=1e-3)
    assert net.n_iter_ < 500


def test_larger_alpha_gives_smaller_weights():
    X, y = classes()
    sizes = [sum(np.sum(w**2) for w in quick(MLPClassifier, solver="lbfgs", alpha=a, max_iter=100).fit(X, y).coefs_)
             for a in (1e-4, 1.0, 100.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_invscaling_divides_by_a_power_of_the_rows_seen():
    X, y = lines(rows=50)
    net = quick(MLPRegressor, solver="sgd", learning_rate="invscaling", power_t=0.25, learning_rate_init=0.02).fit(X, y)
    np.testing.assert_allclose(net.trainer_.history["lr"], [0.02 / (epoch * 50 + 1) ** 0.25 for epoch in range(5)])
    assert net.t_ == 250


def test_adaptive_divides_by_five_until_the_rate_is_too_small():
    X, y = lines()
    net = quick(MLPRegressor, solver="sgd", learning_rate="adaptive", learning_rate_init=1e-4, n_iter_no_change=1, tol=10.0,
                max_iter=100).fit(X, y)
    assert net.trainer_.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 / 5**3)       # the first rate of at most 1e-6
    assert net.n_iter_ == 9                                                 # the first epoch is better than none, then two each


def test_it_stops_after_n_iter_no_change_epochs_and_says_when_it_did_not():
    X, y = lines()
    net = quick(MLPRegressor, tol=100.0, n_iter_no_change=3, max_iter=50)
    assert net.fit(X, y).n_iter_ == 5                       # one that is better than none, and more than three that are not
    with pytest.warns(ConvergenceWarning, match="5 epochs"):
        quick(MLPRegressor).fit(X, y)
    assert quick(MLPRegressor, n_iter_no_change=np.inf, tol=100.0, max_iter=20).fit(X, y).n_iter_ == 20


def test_early_stopping_holds_rows_out_and_keeps_the_best_weights():
    X, y = load_digits(return_X_y=True)
    net = MLPClassifier((16,), early_stopping=True, learning_rate_init=0.01, max_iter=60, n_iter_no_change=3, random_state=0)
    net.fit(X[:500] / 16, y[:500])
    assert len(net.validation_scores_) == net.n_iter_ < 60
    assert net.best_validation_score_ == max(net.validation_scores_) and net.best_loss_ is None
    assert net.t_ == net.n_iter_ * 450                      # a tenth is held out
    regressor = MLPRegressor((16,), early_stopping=True, validation_fraction=0.3, max_iter=5, random_state=0)
    assert len(regressor.fit(*lines()).validation_scores_) == 5 and regressor.t_ == 5 * 42


def test_early_stopping_goes_back_to_the_best_epoch():
    X, y = lines(rows=40)
    net = MLPRegressor((8,), early_stopping=True, max_iter=30, random_state=3, learning_rate_init=0.5, n_iter_no_change=5,
                       validation_fraction=0.5)
    net.fit(X, y)
    from sklearn.model_selection import train_test_split
    held, target = train_test_split(X, y, test_size=0.5, random_state=3)[1::2]
    assert net.score(held, target) == pytest.approx(net.best_validation_score_)


def test_attributes_after_a_fit():
    X, y = classes()
    net = MLPClassifier((7, 5), max_iter=4, random_state=0, batch_size=30).fit(X, y)
    assert [w.shape for w in net.coefs_] == [(4, 7), (7, 5), (5, 3)] and [b.shape for b in net.intercepts_] == [(7,), (5,), (3,)]
    assert (net.n_layers_, net.n_outputs_, net.n_iter_, net.t_, net.n_features_in_) == (4, 3, 4, 360, 4)
    assert net.out_activation_ == "softmax" and len(net.loss_curve_) == 4
    assert net.loss_ == net.loss_curve_[-1] and net.best_loss_ == min(net.loss_curve_)
    assert quick(MLPClassifier).fit(X, y == 1).out_activation_ == "logistic"
    assert quick(MLPRegressor).fit(X, y).out_activation_ == "identity"
    for name in ("coefs_", "n_layers_", "model_", "trainer_"):
        assert not hasattr(MLPClassifier(), name)
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)


def test_partial_fit_is_one_epoch_and_goes_on_with_the_optimizer():
    X, y = classes()
    once = quick(MLPClassifier, max_iter=6).fit(X, y)
    bit_by_bit = quick(MLPClassifier)
    for _ in range(6):
        assert bit_by_bit.partial_fit(X, y, classes=[0, 1, 2]).n_iter_ == 1
    np.testing.assert_allclose(bit_by_bit.predict_proba(X), once.predict_proba(X), rtol=1e-10)
    assert bit_by_bit.t_ == once.t_ and len(bit_by_bit.loss_curve_) == 6


def test_partial_fit_wants_the_classes_first_and_the_same_ones_later():
    X, y = classes()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        quick(MLPClassifier).partial_fit(X, y)
    net = quick(MLPClassifier).partial_fit(X[y < 2], y[y < 2], classes=[2, 1, 0])
    assert net.classes_.tolist() == [0, 1, 2] and net.partial_fit(X, y).predict_proba(X).shape == (90, 3)
    with pytest.raises(ValueError, match="not the same as on the last call"):
        net.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="y holds 7, which is none of the classes"):
        net.partial_fit(X, np.where(y == 2, 7, y))
    with pytest.raises(ValueError, match="early_stopping"):
        quick(MLPClassifier, early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("kind", BOTH)
def test_lbfgs_has_no_partial_fit(kind):
    assert hasattr(kind(), "partial_fit") and not hasattr(kind(solver="lbfgs"), "partial_fit")


@pytest.mark.parametrize("kind", BOTH)
def test_warm_start_goes_on_and_a_cold_one_begins_anew(kind):
    X, y = data_for(kind)
    warm, cold = quick(kind, warm_start=True), quick(kind)
    for _ in range(3):
        warm.fit(X, y)
        cold.fit(X, y)
    assert warm.n_iter_ == cold.n_iter_ == 5 and len(warm.loss_curve_) == 15 and len(cold.loss_curve_) == 5
    assert warm.loss_ < cold.loss_ and warm.loss_curve_[:5] == cold.loss_curve_
    warm.set_params(learning_rate_init=1e-12).fit(X, y)             # what was set since takes effect
    assert warm.loss_curve_[15] == pytest.approx(warm.loss_curve_[19], rel=1e-6)


def test_warm_start_refuses_other_classes():
    X, y = classes()
    net = quick(MLPClassifier, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        net.fit(X, y + 1)


@pytest.mark.parametrize("kind", BOTH)
def test_random_state_decides_everything(kind):
    X, y = data_for(kind)
    given = dict(dropout=0.2, early_stopping=True, batch_size=16)
    first, again, other = (quick(kind, **given, random_state=seed).fit(X, y) for seed in (3, 3, 4))
    assert np.array_equal(first.predict(X), again.predict(X)) and first.loss_curve_ == again.loss_curve_ != other.loss_curve_
    one, two = (quick(kind, random_state=np.random.RandomState(5)).fit(X, y) for _ in range(2))
    assert one.loss_curve_ == two.loss_curve_
    state = np.random.RandomState(5)
    assert quick(kind, random_state=state).fit(X, y).loss_curve_ != quick(kind, random_state=state).fit(X, y).loss_curve_


def start(shape, rng, dtype):
    """The same first weights for every seed."""
    return np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape).astype(dtype)


def test_shuffle_decides_whether_a_seed_changes_the_order():
    X, y = lines()
    given = dict(batch_size=7, model=lambda n, m, rng, dtype: layers.Linear(n, m, weight_init=start, dtype=dtype))
    for shuffle in (False, True):
        one, two = (quick(MLPRegressor, shuffle=shuffle, random_state=seed, **given).fit(X, y).loss_curve_ for seed in (1, 2))
        assert (one == two) is not shuffle


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor, "two"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [9, 30])
def test_many_epochs_at_a_time_are_the_same_as_one_by_one(kind, weighted, batch_size):
    """The Trainer's own loop, which a schedule that changes nothing asks for, against batches filled up and run together."""
    X, y = lines() if kind is MLPRegressor else classes(60)
    y, make = (y > 0, MLPClassifier) if kind == "two" else (y, kind)
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X)) if weighted else None
    given = dict(max_iter=40, tol=0.02, n_iter_no_change=2, learning_rate_init=0.02, batch_size=batch_size)
    together = quick(make, **given).fit(X, y, weight)
    one_by_one = quick(make, **given, learning_rate=lambda o: schedules.ConstantLR(o, 1.0)).fit(X, y, weight)
    assert together.n_iter_ == one_by_one.n_iter_ and together.t_ == one_by_one.t_
    np.testing.assert_allclose(together.loss_curve_, one_by_one.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(together.coefs_[0], one_by_one.coefs_[0], rtol=1e-6, atol=1e-9)


# ── Kinds of targets ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([-1, 1]), np.array([False, True]), np.array([0.0, 2.0]),
                                    np.array(["a", "b"], object)], ids=str)
def test_two_classes_of_any_kind(labels):
    X, y = classes(kinds=2)
    net = quick(MLPClassifier, max_iter=60, learning_rate_init=0.02).fit(X, labels[y])
    assert net.classes_.tolist() == labels.tolist() and net.score(X, labels[y]) > 0.95
    assert net.predict(X).dtype == labels.dtype and net.n_outputs_ == 1
    z, p = net.decision_function(X), net.predict_proba(X)
    assert z.shape == (90,) and p.shape == (90, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-z)))
    assert np.array_equal(net.predict(X) == labels[1], z > 0)


def test_many_classes_of_text():
    X, y = classes()
    words = np.array(["low", "mid", "top"])[y]
    net = quick(MLPClassifier, max_iter=60, learning_rate_init=0.02).fit(X, words)
    p, z = net.predict_proba(X), net.decision_function(X)
    assert net.score(X, words) > 0.95 and p.shape == z.shape == (90, 3)
    np.testing.assert_allclose(p, np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(net.predict_log_proba(X), np.log(p))


def test_logarithms_of_probabilities_that_round_to_zero():
    X, y = classes(kinds=2)
    net = quick(MLPClassifier, hidden_layer_sizes=()).fit(X, y)
    net.coefs_[0][...] *= 1e4
    logs = net.predict_log_proba(X)
    assert np.isfinite(logs).all() and logs.min() < -1000


def test_several_labels_at_once():
    X, y = classes()
    both = np.stack([y > 0, y == 1], axis=1).astype(int)
    net = quick(MLPClassifier, max_iter=100, learning_rate_init=0.02).fit(X, both)
    assert net.predict(X).shape == net.predict_proba(X).shape == net.decision_function(X).shape == (90, 2)
    assert net.score(X, both) > 0.95 and net.classes_.tolist() == [0, 1]
    steps = quick(MLPClassifier).partial_fit(X, both).partial_fit(X, both)
    assert steps.predict(X).shape == (90, 2)
    with pytest.raises(ValueError, match="2 columns of yes and no"):
        steps.partial_fit(X, y)


def test_labels_of_several_columns_in_a_sparse_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = classes()
    both = np.stack([y > 0, y == 1], axis=1).astype(int)
    dense, thin = (quick(MLPClassifier).fit(X, labels) for labels in (both, sparse.csr_matrix(both)))
    assert np.array_equal(dense.predict_proba(X), thin.predict_proba(X))


def test_several_outputs_at_once_and_a_column_of_one():
    X, y = lines()
    net = quick(MLPRegressor, max_iter=200, learning_rate_init=0.02).fit(X, np.stack([y, -y], axis=1))
    assert net.predict(X).shape == (60, 2) and net.score(X, np.stack([y, -y], axis=1)) > 0.95
    with pytest.warns(DataConversionWarning):
        assert quick(MLPRegressor).fit(X, y[:, None]).predict(X).shape == (60,)
    with pytest.raises(ValueError, match="1 columns, but the network has 2"):
        net.partial_fit(X, y)


def test_the_loss_of_two_equal_outputs_is_twice_that_of_one():
    X, y = lines()
    given = dict(hidden_layer_sizes=(), learning_rate_init=1e-30, max_iter=1,
                 model=lambda n, m, rng, dtype: layers.Linear(n, m, weight_init=zeros, dtype=dtype))

    def zeros(shape, rng, dtype):
        return np.zeros(shape, dtype)

    one, two = (quick(MLPRegressor, **given).fit(X, np.stack([y] * k, axis=1).squeeze()) for k in (1, 2))
    assert one.loss_ == pytest.approx(np.mean(y**2) / 2) and two.loss_ == pytest.approx(np.mean(y**2))


def test_counts_have_a_loss_of_their_own():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(400, 1))
    y = rng.poisson(np.exp(2 * X[:, 0]))
    net = quick(MLPRegressor, loss="poisson", hidden_layer_sizes=(), solver="lbfgs", alpha=0, max_iter=200).fit(X, y)
    assert net.out_activation_ == "exp" and net.coefs_[0][0, 0] == pytest.approx(2, abs=0.3) and net.predict(X).min() > 0
    np.testing.assert_allclose(net.predict(X).sum(), y.sum(), rtol=1e-3)        # what the slope of the shift says at the minimum
    with pytest.raises(ValueError, match="negative"):
        quick(MLPRegressor, loss="poisson").fit(X, -y)


def test_absolute_error_finds_a_median():
    y = np.array([0.0, 1.0, 2.0, 3.0, 1000.0])
    net = quick(MLPRegressor, loss="absolute_error", hidden_layer_sizes=(), learning_rate_init=0.1, max_iter=300)
    net.set_params(learning_rate="cosine")
    assert net.fit(np.zeros((5, 1)), y).predict([[0.0]])[0] == pytest.approx(2, abs=0.2)


# ── Weights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor, "two", "several"])
def test_a_weight_means_as_many_rows(kind, solver):
    X, y = lines(30) if kind is MLPRegressor else classes(30)
    y = {"two": y > 0, "several": np.stack([y > 0, y == 1], axis=1).astype(int)}.get(kind, y)
    counts = np.random.default_rng(0).integers(0, 4, 30)
    many = np.repeat(np.arange(30), counts)
    make = kind if kind in BOTH else MLPClassifier
    given = dict(batch_size=100, solver=solver, max_iter=10, alpha=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weighted = quick(make, **given).fit(X, y, sample_weight=counts)
        repeated = quick(make, **given).fit(X[many], y[many])
    ask = "predict" if make is MLPRegressor else "predict_proba"
    np.testing.assert_allclose(getattr(weighted, ask)(X), getattr(repeated, ask)(X), rtol=1e-6)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-6)


@pytest.mark.parametrize("kind", BOTH)
def test_a_row_of_weight_zero_is_not_there(kind):
    X, y = data_for(kind)
    weight = np.ones(len(X))
    weight[::5] = 0
    X[::5] = 1e6
    kept = weight > 0
    left, without = quick(kind, batch_size=10).fit(X, y, weight), quick(kind, batch_size=10).fit(X[kept], y[kept], weight[kept])
    assert np.array_equal(left.predict(X[kept]), without.predict(X[kept]))


def test_weights_count_in_the_score_on_rows_held_out():
    X, y = lines()
    net = quick(MLPRegressor, early_stopping=True, validation_fraction=0.5)
    heavy = np.where(np.arange(60) % 2, 10.0, 0.1)
    assert net.fit(X, y, heavy).validation_scores_ != net.fit(X, y, np.ones(60)).validation_scores_


@pytest.mark.parametrize("kind", BOTH)
def test_bad_weights_are_named(kind):
    X, y = data_for(kind)
    for weight, said in [(-np.ones(len(X)), "that of row 0 is -1"), (np.zeros(len(X)), "zero"), (np.ones(3), "one for each row"),
                         (np.full(len(X), np.nan), "NaN")]:
        with pytest.raises(ValueError, match=said):
            quick(kind).fit(X, y, sample_weight=weight)


def test_weights_of_classes_are_weights_of_their_rows():
    X, y = classes()
    by_class = quick(MLPClassifier, class_weight={0: 1.0, 1: 3.0, 2: 0.5}).fit(X, y)
    by_row = quick(MLPClassifier).fit(X, y, sample_weight=np.array([1.0, 3.0, 0.5])[y])
    assert np.array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    words = np.array(["a", "b", "c"])[y]
    by_word = quick(MLPClassifier, class_weight={"b": 3.0, "c": 0.5}).fit(X, words)
    assert np.array_equal(by_word.predict_proba(X), by_row.predict_proba(X))
    several = quick(MLPClassifier, class_weight=[{0: 1, 1: 2}, {0: 1, 1: 5}])
    assert several.fit(X, np.stack([y > 0, y == 1], axis=1).astype(int)).predict(X).shape == (90, 2)


def test_balanced_weights_find_the_rare_class():
    X, y = make_classification(1500, 10, n_informative=3, weights=[0.96], class_sep=0.7, random_state=0)
    plain, balanced = (balanced_accuracy_score(y, MLPClassifier((8,), class_weight=w, max_iter=20, learning_rate_init=0.01,
                                                                random_state=0).fit(X, y).predict(X)) for w in (None, "balanced"))
    assert balanced > plain + 0.1
    with pytest.raises(ValueError, match="never sees"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


# ── What ours have beyond ────────────────────────────────────────────────────────────────────────────────────────────


def kinds_of(net):
    return [type(module).__name__ for module in net.model_.modules()]


def test_dropout_normalization_and_residual_blocks():
    X, y = classes()
    net = quick(MLPClassifier, hidden_layer_sizes=(8, 8, 6), dropout=0.1, norm="layer", residual=True, max_iter=60,
                learning_rate_init=0.02).fit(X, y)
    kinds = kinds_of(net)
    assert kinds.count("Residual") == 2 and kinds.count("Dropout") == kinds.count("LayerNorm") == 3
    assert [type(r.shortcut).__name__ for r in net.model_.modules() if type(r) is layers.Residual] == ["NoneType", "Linear"]
    assert net.score(X, y) > 0.95
    assert np.array_equal(net.predict(X), net.predict(X)), "dropout is for training"
    plain, ways = (quick(MLPRegressor, hidden_layer_sizes=(4,), residual=r).fit(X, y) for r in (False, True))
    assert np.array_equal(plain.predict(X), ways.predict(X))        # a single hidden layer changes the width: no way around


def test_batch_normalization_with_a_last_batch_of_one_row():
    X, y = classes(rows=91)
    net = quick(MLPClassifier, norm="batch", batch_size=30, max_iter=40, learning_rate_init=0.02).fit(X, y)
    assert net.score(X, y) > 0.95 and "BatchNorm1d" in kinds_of(net)


def make_wide(n_inputs, n_outputs, rng, dtype):
    return layers.Sequential(layers.Linear(n_inputs, 20, rng=rng, dtype=dtype), layers.Tanh(),
                             layers.Linear(20, n_outputs, rng=rng, dtype=dtype))


def test_any_network_by_a_function():
    X, y = classes()
    net = quick(MLPClassifier, model=make_wide, max_iter=60, learning_rate_init=0.02).fit(X, y)
    assert net.score(X, y) > 0.95 and net.coefs_[0].shape == (4, 20) and clone(net).model is make_wide
    with pytest.raises(TypeError, match="must return a Module, got int"):
        quick(MLPClassifier, model=lambda n, m, rng, dtype: 3).fit(X, y)


def test_schedules_by_name_and_by_a_function():
    X, y = lines()
    rates = quick(MLPRegressor, learning_rate="cosine", max_iter=8).fit(X, y).trainer_.history["lr"]
    assert rates[0] == 0.001 and rates == sorted(rates, reverse=True) and rates[4] == pytest.approx(0.0005)
    net = quick(MLPRegressor, learning_rate="one_cycle", max_iter=10, batch_size=20).fit(X, y)
    assert net.trainer_.scheduler.total_steps == 30 and max(net.trainer_.history["lr"]) < 0.001
    halved = quick(MLPRegressor, learning_rate=lambda optimizer: schedules.StepLR(optimizer, 1, gamma=0.5)).fit(X, y)
    assert halved.trainer_.history["lr"] == [0.001 / 2**epoch for epoch in range(5)]


def test_the_trainer_is_there_and_its_step_is_captured():
    X, y = classes()
    for net in (quick(MLPClassifier).fit(X, y), quick(MLPClassifier).fit(X, y, np.ones(90)), quick(MLPClassifier).fit(X, y > 0),
                quick(MLPRegressor).fit(X, y), quick(MLPRegressor).fit(X, y, np.ones(90))):
        step = net.trainer_._step
        assert step.captured or "numba" in step.reason or "compile" in step.reason, step.reason
        assert net.model_ is net.trainer_.model and net.loss_curve_ == net.trainer_.history["loss"]


def test_the_dtype_is_that_of_the_data_or_the_one_asked_for():
    X, y = classes()
    for given, asked, found in [(np.float64, None, np.float64), (np.float32, None, np.float32), (np.int64, None, np.float64),
                                (np.float64, "float32", np.float32), (np.float32, np.float64, np.float64)]:
        net = quick(MLPClassifier, dtype=asked).fit(X.astype(given), y)
        assert net.predict_proba(X.astype(given)).dtype == net.coefs_[0].dtype == found


def test_clipped_gradients_make_small_steps():
    X, y = lines()
    given = dict(solver="sgd", learning_rate_init=1.0, momentum=0.0, batch_size=60, alpha=0.0)
    net = quick(MLPRegressor, clip_grad_norm=1e-3, **given)
    before = [w.copy() for w in net.partial_fit(X, 100 * y).coefs_]
    net.partial_fit(X, 100 * y)
    assert sum(np.sum((a - b) ** 2) for a, b in zip(net.coefs_, before, strict=True)) ** 0.5 <= 1e-3


@pytest.mark.parametrize("name, value, said", [
    ("solver", "newton", "sgd, adam, adamw"), ("alpha", -1.0, "at least 0, got -1.0"), ("batch_size", 0, "positive integer or 'auto'"),
    ("learning_rate", "fast", "constant, invscaling"), ("learning_rate_init", 0, "positive number"), ("max_iter", 0, "positive integer"),
    ("hidden_layer_sizes", (8, -1), "hidden_layer_sizes must be > 0"), ("hidden_layer_sizes", (2.5,), "hidden_layer_sizes"),
    ("momentum", 2, "from 0 to 1"), ("validation_fraction", 1.0, "between 0 and 1"), ("tol", None, "at least 0"),
    ("n_iter_no_change", 0, "positive integer or infinity"), ("dropout", 1.5, "probability"), ("activation", "rely", "activation must be"),
    ("norm", "group", "norm must be"), ("beta_1", 1.0, "below 1"), ("epsilon", 0.0, "positive"), ("model", 3, "None or a function"),
    ("max_fun", 0, "positive integer"), ("power_t", -1, "at least 0"), ("max_iter", True, "positive integer")])
@pytest.mark.parametrize("kind", BOTH)
def test_a_parameter_that_means_nothing_is_named_in_fit(kind, name, value, said):
    net = quick(kind, **{name: value})
    with pytest.raises(ValueError, match=said) as caught:
        net.fit(*data_for(kind))
    assert name in str(caught.value)


def test_other_refusals():
    X, y = lines()
    with pytest.raises(ValueError, match="loss must be one of squared_error"):
        quick(MLPRegressor, loss="huge").fit(X, y)
    with pytest.raises(ValueError, match="lbfgs.*dropout"):
        quick(MLPRegressor, solver="lbfgs", dropout=0.5).fit(X, y)
    with pytest.raises(ValueError, match="validation set is too small"):
        quick(MLPRegressor, early_stopping=True).fit(X[:5], y[:5])
    with pytest.warns(UserWarning, match="batch_size=100 is larger than the 60 rows"):
        quick(MLPRegressor, batch_size=100).fit(X, y)
    with pytest.raises(FloatingPointError, match="learning rate"):
        quick(MLPRegressor, solver="sgd", learning_rate_init=1e6, max_iter=100).fit(X, y)


# ── Among others ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", BOTH)
def test_copies_are_the_same_and_go_on_the_same_way(kind):
    X, y = data_for(kind)
    net = quick(kind, dropout=0.1, learning_rate="invscaling", solver="sgd").fit(X, y)
    for twin in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert np.array_equal(twin.predict(X), net.predict(X)) and twin.loss_curve_ == net.loss_curve_
        original = copy.deepcopy(net)
        assert np.array_equal(twin.partial_fit(X, y).predict(X), original.partial_fit(X, y).predict(X))
    assert not hasattr(clone(net), "trainer_")


def test_a_search_in_two_processes_finds_what_one_finds():
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=4, random_state=0))
    grid = {"mlpclassifier__learning_rate_init": [1e-3, 1e-2], "mlpclassifier__hidden_layer_sizes": [(8,), (16,)]}
    one, two = (GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(X[:300], y[:300]).cv_results_["mean_test_score"] for n in (1, 2))
    np.testing.assert_allclose(one, two)
    assert one.argmax() % 2 == 1 and len(set(one)) > 1


def test_cross_validation_calibration_and_importance():
    X, y = classes()
    X = np.concatenate([X, np.random.default_rng(0).normal(size=(90, 1))], axis=1)
    net = quick(MLPClassifier, max_iter=40, learning_rate_init=0.03)
    assert cross_val_score(net, X, y, cv=3).min() > 0.9
    calibrated = CalibratedClassifierCV(net, cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.score(X, y) > 0.9
    found = permutation_importance(net.fit(X, y), X, y, n_repeats=2, random_state=0).importances_mean
    assert found[:3].min() > found[4] + 0.1
    both = MultiOutputClassifier(net).fit(X, np.stack([y, (y + 1) % 3], axis=1))
    assert both.predict(X).shape == (90, 2)


def test_weights_are_routed_where_they_are_asked_for():
    import sklearn

    X, y = classes()
    weight = np.where(np.arange(90) % 3 == 0, 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        asked = quick(MLPClassifier).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asked).fit(X, y, sample_weight=weight)
        scores = cross_validate(asked, X, y, params={"sample_weight": weight}, cv=2)["test_score"]
    scaled = StandardScaler().fit_transform(X)
    assert np.array_equal(routed.predict_proba(X), quick(MLPClassifier).fit(scaled, y, weight).predict_proba(scaled))
    assert len(scores) == 2


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_names_of_columns(library):
    frames = pytest.importorskip(library)
    X, y = classes()
    frame = frames.DataFrame({name: X[:, k] for k, name in enumerate("abcd")})
    net = quick(MLPClassifier).fit(frame, y)
    assert net.feature_names_in_.tolist() == list("abcd") and net.n_features_in_ == 4
    assert np.array_equal(net.predict_proba(frame), quick(MLPClassifier).fit(X, y).predict_proba(X))
    with pytest.raises(ValueError, match="feature names should match"):
        net.predict(frame[["b", "a", "c", "d"]])
    with pytest.raises(ValueError, match="3 features"):
        quick(MLPClassifier).fit(X, y).predict(X[:, :3])


def test_a_pipeline_hands_frames_on():
    pandas = pytest.importorskip("pandas")
    X, y = classes()
    pipeline = make_pipeline(StandardScaler(), quick(MLPClassifier)).set_output(transform="pandas")
    pipeline.fit(pandas.DataFrame(X, columns=list("abcd")), pandas.Series(y).map({0: "x", 1: "y", 2: "z"}))
    assert pipeline[-1].feature_names_in_.tolist() == list("abcd") and pipeline[-1].classes_.tolist() == ["x", "y", "z"]


def test_data_that_may_not_be_written_stay_as_they_are():
    X, y = classes()
    before = X.copy()
    X.flags.writeable = y.flags.writeable = False
    quick(MLPClassifier).fit(X, y).predict(X)
    quick(MLPClassifier).fit(np.asfortranarray(X), y)
    assert np.array_equal(X, before)


def test_it_learns_as_well_as_others_do():
    X, y = load_digits(return_X_y=True)
    net = make_pipeline(StandardScaler(), MLPClassifier((64,), max_iter=30, learning_rate_init=0.01, random_state=0))
    assert net.fit(X[:1300], y[:1300]).score(X[1300:], y[1300:]) > 0.92
    X, y = make_regression(300, 10, noise=5.0, random_state=0)
    assert MLPRegressor((32,), solver="lbfgs", random_state=0, max_iter=300).fit(X[:200], y[:200]).score(X[200:], y[200:]) > 0.95
    X, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    net = make_pipeline(StandardScaler(), MLPRegressor((16,), solver="lbfgs", alpha=50, random_state=0, max_iter=300))
    assert cross_val_score(net, X, y, cv=3).mean() > 0.4
