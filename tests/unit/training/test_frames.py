"""Tables of pandas and polars at the three doors that train: Trainer.fit, the estimators, Loader. Each kind of column is taken as the
numbers that it holds, or refused with its name and its row."""
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

from deepnotes import MLP, Loader, Trainer

pytest.importorskip("sklearn")
from deepnotes.estimators import MLPClassifier, MLPRegressor

A, B, F, WORDS = np.linspace(-1, 1, 12), np.arange(12) % 5, np.arange(12) % 3 == 0, list("xyzxyzxyzxyz")
Y = np.arange(12) % 2
NUMBERS, YES = np.column_stack([A, B]), np.column_stack([A, F])
TAKEN = {
    "plain": (pd.DataFrame({"a": A, "b": B}), NUMBERS), "bool": (pd.DataFrame({"a": A, "b": F}), YES),
    "bool alone": (pd.DataFrame({"a": ~F, "b": F}), np.column_stack([~F, F])),
    "Int64": (pd.DataFrame({"a": pd.array(B, dtype="Int64"), "b": pd.array(B, dtype="Int64")}), np.column_stack([B, B])),
    "Float64 and Int64": (pd.DataFrame({"a": pd.array(A, dtype="Float64"), "b": pd.array(B, dtype="Int64")}), NUMBERS),
    "boolean": (pd.DataFrame({"a": A, "b": pd.array(F, dtype="boolean")}), YES),
    "convert_dtypes": (pd.DataFrame({"a": A, "b": B}).convert_dtypes(), NUMBERS),
    "categories of numbers": (pd.DataFrame({"a": A, "b": pd.Categorical(B)}), NUMBERS),
    "codes": (pd.DataFrame({"a": A, "b": pd.Categorical(WORDS).codes}), np.column_stack([A, np.arange(12) % 3])),
    "polars": (pl.DataFrame({"a": A, "b": B}), NUMBERS), "polars bool": (pl.DataFrame({"a": A, "b": F}), YES),
    "polars codes": (pl.DataFrame({"a": A, "b": pl.Series(WORDS, dtype=pl.Enum(["x", "y", "z"])).to_physical()}),
                     np.column_stack([A, np.arange(12) % 3])),
}
REFUSED = {
    "Int64 with NA": (pd.DataFrame({"a": A, "b": pd.array([1, None, *B[2:]], dtype="Int64")}), "row 1, column 'b'"),
    "boolean with NA": (pd.DataFrame({"a": A, "b": pd.array([True, None, *F[2:]], dtype="boolean")}), "row 1, column 'b'"),
    "text": (pd.DataFrame({"a": A, "b": WORDS}), "'x' of type str in row 0, column 'b'; encode that column"),
    "categories": (pd.DataFrame({"a": A, "b": pd.Categorical(WORDS)}), "'x' of type str in row 0, column 'b'; encode that column"),
    "dates": (pd.DataFrame({"a": A, "b": pd.date_range("2020", periods=12)}), "Timestamp in row 0, column 'b'"),
    "nan": (pd.DataFrame({"a": A, "b": [1.0, np.nan, *A[2:]]}), "row 1, column 'b'"),
    "polars null": (pl.DataFrame({"a": A, "b": [1, None, *B[2:].tolist()]}), "row 1, column 'b'"),
    "polars text": (pl.DataFrame({"a": A, "b": WORDS}), "'x' of type str in row 0, column 'b'; encode that column"),
    "polars categories": (pl.DataFrame({"a": A, "b": pl.Series(WORDS, dtype=pl.Categorical)}), "'x' of type str in row 0, column 'b'"),
}
LABELS = {
    "Series": pd.Series(Y), "Int64": pd.Series(Y, dtype="Int64"), "bool": pd.Series(Y > 0), "boolean": pd.Series(Y > 0, dtype="boolean"),
    "categories of numbers": pd.Series(pd.Categorical(Y)), "codes": pd.Series(pd.Categorical(Y + 3)).cat.codes,
    "polars": pl.Series(Y), "polars bool": pl.Series(Y > 0),
}


def trainer():
    return Trainer(MLP(2, [3], 2, rng=0), capture=False)


def fitted(X, y):
    one = trainer()
    one.fit(X, y, epochs=1, progress=False)
    return one


def estimator(kind, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                             # one epoch is not enough
        return kind((3,), max_iter=1, random_state=0).fit(X, y)


def weights(net):
    return np.concatenate([p.data.ravel() for p in net.parameters()])


@pytest.mark.parametrize("kind", TAKEN)
def test_a_table_is_the_numbers_in_it(kind):
    table, numbers = TAKEN[kind]
    numbers = numbers.astype("float64")
    one = fitted(table, Y)
    assert one.features == ("a", "b")
    np.testing.assert_array_equal(weights(one.model), weights(fitted(numbers, Y).model))
    np.testing.assert_array_equal(one.predict_proba(table), one.predict_proba(table[["a", "b"]]))
    net = estimator(MLPClassifier, table, Y)
    assert list(net.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(weights(net.model_), weights(estimator(MLPClassifier, numbers, Y).model_))
    (x, _), *_ = Loader(table, Y, 12, shuffle=False)
    np.testing.assert_array_equal(np.asarray(x, "float64"), numbers)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_number_is_named_by_column_and_row(kind):
    table, said = REFUSED[kind]
    good = NUMBERS.astype("float64")
    for refuse in (lambda: trainer().fit(table, Y, epochs=1, progress=False), lambda: trainer().predict_proba(table),
                   lambda: estimator(MLPClassifier, table, Y), lambda: estimator(MLPRegressor, table, A)):
        with pytest.raises((TypeError, ValueError), match=said):
            refuse()
    library = pd if isinstance(table, pd.DataFrame) else pl
    fit = estimator(MLPClassifier, library.DataFrame({"a": good[:, 0], "b": good[:, 1]}), Y)
    with pytest.raises((TypeError, ValueError), match=f"MLPClassifier: X .*{said}"):
        fit.predict(table)


def test_arrays_keep_scikit_learns_message():
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator(MLPClassifier, np.where(NUMBERS > 0.99, np.nan, NUMBERS), Y)


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_a_column(kind):
    expected = weights(fitted(NUMBERS, Y).model)
    np.testing.assert_array_equal(weights(fitted(NUMBERS, LABELS[kind]).model), expected)
    net = estimator(MLPClassifier, NUMBERS, LABELS[kind])
    np.testing.assert_array_equal(weights(net.model_), weights(estimator(MLPClassifier, NUMBERS, Y).model_))


@pytest.mark.parametrize("labels", [pd.Series(WORDS), pd.Series(WORDS, dtype="category"), pl.Series(WORDS),
                                    pl.Series(WORDS, dtype=pl.Categorical)], ids=["pandas", "category", "polars", "Categorical"])
def test_text_labels_are_numbered_by_the_estimators_and_explained_by_the_trainer(labels):
    net = estimator(MLPClassifier, NUMBERS, labels)
    assert list(net.classes_) == ["x", "y", "z"] and set(net.predict(NUMBERS)) <= {"x", "y", "z"}
    with pytest.raises(TypeError, match=r"y must hold real numbers, .*number the classes from 0: classes, y = np\.unique"):
        fitted(NUMBERS, labels)


@pytest.mark.parametrize("name", ["X", "y"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_a_frame_that_is_not_computed_yet_says_how(kind, name):
    data = {"X": pl.DataFrame({"a": A, "b": B}), "y": pl.Series("y", Y)}
    data[name] = pl.DataFrame(data[name]).lazy()
    with pytest.raises(TypeError, match=rf"{kind.__name__}: {name} must be .* LazyFrame has not been computed yet; use collect\(\)"):
        kind().fit(data["X"], data["y"])
