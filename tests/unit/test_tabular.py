"""A frame with text, categories, yes and no and missing values, as it comes, through one call to a fitted model."""

import io
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from deepnotes.estimators import MLPClassifier, MLPRegressor, TableEncoder, tabular

N = 90
RNG = np.random.default_rng(0)
TOWN = RNG.choice(["Bern", "Uri", "Zug"], N)
OWNER = RNG.random(N) < 0.5
COLUMNS = {
    "town": [None if k % 30 == 7 else str(town) for k, town in enumerate(TOWN)],
    "age": [None if k % 20 == 3 else int(age) for k, age in enumerate(RNG.integers(18, 80, N))],
    "owner": [bool(owner) for owner in OWNER],
    "size": [str(size) for size in RNG.choice(["S", "M", "L"], N)],
    "weight": [float(w) for w in RNG.normal(70, 10, N)],
}
Y = np.where((TOWN == "Zug") ^ OWNER, "yes", "no")
PANDAS = pd.DataFrame({**COLUMNS, "size": pd.Categorical(COLUMNS["size"])})
FRAMES = {
    "pandas": PANDAS,
    "nullable": PANDAS.convert_dtypes().astype({"size": "category"}),
    "objects": pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in COLUMNS.items()}),
    "sparse": PANDAS.assign(weight=pd.arrays.SparseArray(COLUMNS["weight"])),
    "polars": pl.DataFrame(COLUMNS),
    "polars categories": pl.DataFrame(COLUMNS).with_columns(pl.col("town").cast(pl.Categorical),
                                                            pl.col("size").cast(pl.Enum(["S", "M", "L"]))),
    "records": np.array(list(zip(*COLUMNS.values(), strict=True)), [(n, t) for n, t in zip(COLUMNS, "OO?Od", strict=True)]),
}
NAMES = ["age", "owner", "weight", "missingindicator_age", "town_Bern", "town_Uri", "town_Zug", "town_None", "size_L", "size_M", "size_S"]


def network(kind=MLPClassifier, **kw):
    return kind((8,), solver="lbfgs", max_iter=400, random_state=0, **kw)


@pytest.mark.parametrize("kind", FRAMES)
def test_every_kind_of_frame_is_the_same_numbers(kind):
    encoder = TableEncoder()
    found = encoder.fit_transform(FRAMES[kind])
    assert encoder.kinds_ == {"town": "text", "age": "numbers", "owner": "numbers", "size": "text", "weight": "numbers"}
    assert list(encoder.get_feature_names_out()) == NAMES
    assert list(encoder.feature_names_in_) == list(COLUMNS) and encoder.n_features_in_ == 5
    age = np.array([np.nan if a is None else a for a in COLUMNS["age"]])
    filled = np.where(np.isnan(age), np.nanmedian(age), age)
    expected = {"age": (filled - filled.mean()) / filled.std(), "town_Zug": np.array([t == "Zug" for t in COLUMNS["town"]]),
                "town_None": np.array([t is None for t in COLUMNS["town"]]), "size_L": np.array([s == "L" for s in COLUMNS["size"]]),
                "owner": (OWNER - OWNER.mean()) / OWNER.std()}
    for name, column in expected.items():
        np.testing.assert_allclose(found[:, NAMES.index(name)], column, atol=1e-12, err_msg=name)
    np.testing.assert_array_equal(encoder.transform(FRAMES[kind]), found)


@pytest.mark.parametrize("kind", ["pandas", "polars", "records"])
def test_one_call_learns_searches_travels_and_answers(kind):
    frame = FRAMES[kind]
    fitted = tabular(network()).fit(frame, Y)
    assert fitted.score(frame, Y) == 1.0 and list(fitted.classes_) == ["no", "yes"]
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict_proba(frame), fitted.predict_proba(frame))
    assert list(fitted[:-1].get_feature_names_out()) == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                     # a few iterations are enough to compare
        search = GridSearchCV(tabular(MLPClassifier((4,), max_iter=3, random_state=0)), cv=2, error_score="raise", param_grid={
            "network__alpha": [0, 1e-3],
            "table__text": [None, OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)]})
        search.fit(frame, Y)
    assert set(search.predict(frame)) <= {"yes", "no"} and len(search.cv_results_["params"]) == 4


def test_pandas_and_polars_answer_for_each_other():
    fitted = tabular(network()).fit(FRAMES["pandas"], Y)
    np.testing.assert_array_equal(fitted.predict_proba(FRAMES["polars"]), fitted.predict_proba(FRAMES["pandas"]))


def test_regression_other_estimators_and_labels_of_a_series():
    target = np.where(TOWN == "Uri", 1.0, -1.0) + OWNER
    assert tabular(network(MLPRegressor)).fit(PANDAS, pd.Series(target)).score(PANDAS, target) > 0.9
    assert tabular(LogisticRegression()).fit(PANDAS, Y).predict(PANDAS).shape == (N,)
    assert tabular(network(), text=TargetEncoder(cv=2)).fit(FRAMES["polars"], pl.Series(Y)).predict(FRAMES["polars"]).shape == (N,)
    weight = np.ones(N)
    tabular(network()).fit(PANDAS, Y, network__sample_weight=weight)


def test_unseen_categories_are_none_of_those_known_and_missing_numbers_are_filled():
    encoder = TableEncoder().fit(PANDAS)
    new = PANDAS.iloc[:2].assign(town=["Paris", None], weight=[np.nan, 70.0], size=pd.Categorical(["XL", "S"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = dict(zip(NAMES, encoder.transform(new).T, strict=True))
    assert [row[f"town_{t}"][0] for t in ("Bern", "Uri", "Zug", "None")] == [0, 0, 0, 0] and row["town_None"][1] == 1
    assert [row[f"size_{s}"][0] for s in "SML"] == [0, 0, 0]
    median = np.median(COLUMNS["weight"])
    np.testing.assert_allclose(row["weight"][0], (median - np.mean(COLUMNS["weight"])) / np.std(COLUMNS["weight"]))


def test_one_kind_alone_and_nothing_at_all_in_a_column():
    numbers = pd.DataFrame({"a": [1.0, 2.0, 3.0], "empty": [None, None, None]})
    np.testing.assert_allclose(TableEncoder().fit_transform(numbers)[:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert TableEncoder().fit(numbers).kinds_["empty"] == "numbers"
    text = pl.DataFrame({"a": ["x", "y", "x"]})
    encoder = TableEncoder().fit(text)
    np.testing.assert_array_equal(encoder.transform(text), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(encoder.transform(pl.DataFrame({"a": [None, None]})), np.zeros((2, 2)))
    codes = pd.DataFrame({"zip": pd.Categorical([8001, 3000, 8001])})
    assert list(TableEncoder().fit(codes).get_feature_names_out()) == ["zip_3000", "zip_8001"]


def test_rare_categories_share_a_column():
    frame = pd.DataFrame({"name": [f"n{k}" for k in range(150)] + ["often"] * 5})
    assert TableEncoder().fit_transform(frame).shape == (155, 100)


def test_it_is_a_transformer_like_others():
    encoder = TableEncoder(text=OrdinalEncoder())
    assert clone(encoder).get_params(deep=False).keys() == {"numbers", "text"}
    framed = TableEncoder().set_output(transform="pandas").fit_transform(PANDAS.set_index(np.arange(N) + 5))
    assert list(framed.columns) == NAMES and framed.index[0] == 5
    file = io.BytesIO(pickle.dumps(make_pipeline(TableEncoder()).fit(PANDAS)))
    np.testing.assert_array_equal(pickle.load(file).transform(PANDAS), TableEncoder().fit_transform(PANDAS))


DAYS = pd.date_range("2020", periods=N)
REFUSED = {
    "dates": (PANDAS.assign(born=DAYS), "column 'born' holds dates; use numbers, such as the year"),
    "polars dates": (FRAMES["polars"].with_columns(pl.Series("born", DAYS.to_numpy())), "column 'born' holds dates"),
    "time zones": (PANDAS.assign(born=DAYS.tz_localize("UTC")), "column 'born' holds .*Timestamp"),
    "spans": (PANDAS.assign(since=DAYS - DAYS[0]), "column 'since' holds time spans"),
    "polars times": (FRAMES["polars"].with_columns(pl.time(8).alias("at")), "column 'at' holds .* of type time in row 0"),
    "mixed": (PANDAS.assign(age=["old", *range(N - 1)]), "column 'age' holds 'old' of type str in row 0; make all of them text"),
    "lists": (PANDAS.assign(tags=[["a"]] * N), r"column 'tags' holds \['a'\] of type list in row 0"),
    "infinity": (PANDAS.assign(weight=[*COLUMNS["weight"][:-1], np.inf]), f"column 'weight' holds inf in row {N - 1}"),
    "complex": (PANDAS.assign(z=1j), "column 'z' holds complex numbers"),
    "twice": (pd.concat([PANDAS, PANDAS[["age"]]], axis=1), "two columns are named 'age'"),
    "lazy": (FRAMES["polars"].lazy(), r"LazyFrame has not been computed yet; use collect\(\)"),
    "an array": (np.ones((3, 2)), "ndarray has no names of columns"),
    "numbered": (pd.DataFrame(np.ones((3, 2))), "whose columns have names of text"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_it_cannot_know_is_named_by_column(kind):
    frame, words = REFUSED[kind]
    with pytest.raises((TypeError, ValueError), match=f"TableEncoder: .*{words}.* See the page Estimators, section From a frame"):
        TableEncoder().fit(frame)


def test_columns_are_those_of_fit():
    encoder = TableEncoder().fit(PANDAS)
    with pytest.raises(ValueError, match="missing: 'town'"):
        encoder.transform(PANDAS.drop(columns="town"))
    with pytest.raises(ValueError, match="not seen in fit: 'new'"):
        encoder.transform(PANDAS.assign(new=1))
    with pytest.raises(TypeError, match="column 'age' held numbers in fit, and here it holds text, such as 'old'"):
        encoder.transform(PANDAS.assign(age="old"))
    with pytest.raises(TypeError, match="column 'town' held text in fit, and here it holds numbers, such as 3"):
        encoder.transform(PANDAS.assign(town=3))
    with pytest.warns(UserWarning, match="another order than in fit"):
        found = encoder.transform(PANDAS[PANDAS.columns[::-1]])
    np.testing.assert_array_equal(found, encoder.transform(PANDAS))
