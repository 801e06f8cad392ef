"""Every door through which data come in, by every container and dtype: the right numbers, or a message that names the cure."""
import decimal
import re
import sys
import threading
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

from deepnotes import datasets as ds
from deepnotes import optimizers
from deepnotes.autograd import Tensor
from deepnotes.layers import MLP, BatchNorm1d, Embedding, Linear, Module, ReLU, Sequential
from deepnotes.schedules import ReduceLROnPlateau
from deepnotes.training import Trainer
from deepnotes.training.callbacks import Callback, Checkpoint, Diagnostics, EarlyStopping
from deepnotes.training.loader import Loader

N = 12
TABLE = np.random.default_rng(0).integers(-3, 4, (N, 2)).astype("float32")          # whole numbers, exact in every dtype
WORDS = np.array([["a", "b"]] * N)
CLASSES = np.arange(N) % 2
FRAME = pd.DataFrame(TABLE, columns=["age", "height"])


def with_entry(value, dtype="float32", row=7, column=1):
    a = TABLE.astype(dtype)
    a[row, column] = value
    return a


def nullable(missing=False):
    frame = pd.DataFrame({"age": pd.array(TABLE[:, 0].astype(int), "Int64"), "height": pd.array(TABLE[:, 1], "Float64")})
    if missing:
        frame.loc[7, "age"] = pd.NA
    return frame


def bool_and_float():
    return pd.DataFrame({"age": TABLE[:, 0], "height": TABLE[:, 1] > 0})


# What comes in, and the table that it holds.
GOOD = {
    "list": (TABLE.tolist(), TABLE),
    "tuple": (tuple(map(tuple, TABLE.tolist())), TABLE),
    "list of arrays": (list(TABLE), TABLE),
    "float16": (TABLE.astype("float16"), TABLE),
    "float32": (TABLE, TABLE),
    "float64": (TABLE.astype("float64"), TABLE),
    "big-endian": (TABLE.astype(">f4"), TABLE),
    "Fortran order": (np.asfortranarray(TABLE), TABLE),
    "reversed view": (TABLE[::-1][::-1], TABLE),
    "int8": (TABLE.astype("int8"), TABLE),
    "int64": (TABLE.astype("int64"), TABLE),
    "uint64": (abs(TABLE).astype("uint64"), abs(TABLE)),
    "bool": (TABLE > 0, TABLE > 0),
    "masked, nothing hidden": (np.ma.masked_array(TABLE, mask=False), TABLE),
    "object of floats": (TABLE.astype(object), TABLE),
    "object of ints and bools": (np.array([[int(a), bool(b)] for a, b in TABLE], object), np.c_[TABLE[:, 0], TABLE[:, 1] != 0]),
    "object of decimals": (np.array([[decimal.Decimal(float(v)) for v in row] for row in TABLE], object), TABLE),
    "Tensor": (Tensor(TABLE), TABLE),
    "frame": (FRAME, TABLE),
    "frame of bool and float": (bool_and_float(), np.c_[TABLE[:, 0], TABLE[:, 1] > 0]),
    "frame of two nullable dtypes": (nullable(), TABLE),
    "frame whose columns have no text for names": (pd.DataFrame(TABLE), TABLE),
    "get_dummies": (pd.get_dummies(pd.DataFrame({"age": TABLE[:, 0], "kind": np.where(TABLE[:, 1] > 0, "a", "b")})).iloc[:, :2],
                    np.c_[TABLE[:, 0], TABLE[:, 1] > 0]),
    "polars frame": (pl.DataFrame({"age": TABLE[:, 0], "height": TABLE[:, 1]}), TABLE),
    "polars frame of bool and int": (pl.DataFrame({"age": TABLE[:, 0].astype(int), "height": TABLE[:, 1] > 0}),
                                     np.c_[TABLE[:, 0], TABLE[:, 1] > 0]),
}

# What comes in, and the words of the cure. None is right for a door that computes nothing with it.
REFUSED = {
    "masked": (np.ma.masked_array(TABLE, mask=TABLE > 1), "masked"),
    "list of masked rows": ([np.ma.masked_array(row, mask=row > 1) for row in TABLE], "masked"),
    "None": (None, "None is missing"),
    "None in a list": (with_entry(None, object).tolist(), "missing value .None. in row 7, column 1"),
    "object with None": (with_entry(None, object), "missing value .None. in row 7, column 1"),
    "object with NaT": (with_entry(pd.NaT, object), "missing value .NaT. in row 7, column 1"),
    "nullable frame with NA": (nullable(missing=True), "missing value .<NA>. in row 7, column 'age'"),
    "object with text": (with_entry("ten", object), "'ten' of type str in row 7, column 1.*astype"),
    "frame with text": (FRAME.assign(height="tall"), "'tall' of type str in row 0, column 'height'.*astype"),
    "polars frame with text": (pl.DataFrame({"age": TABLE[:, 0], "height": ["tall"] * N}), "column 'height'.*astype"),
    "strings": (WORDS, "text"),
    "dates": (np.full((N, 2), "2020-01-01", "M8[D]"), "dates; use .d - start."),
    "dates with NaT": (np.array([["2020-01-01", "NaT"]] * N, "M8[D]"), "missing value .NaT. in row 0, column 1"),
    "time spans": (np.ones((N, 2), "m8[s]"), "time spans; divide"),
    "complex": (TABLE + 1j, "complex numbers; use"),
    "fields": (np.zeros(N, [("a", "f4"), ("b", "f4")]), "structured_to_unstructured"),
    "sparse": (sp.csr_matrix(TABLE), "use toarray"),
    "sparse array": (sp.coo_array(TABLE), "use toarray"),
    "polars lazy frame": (pl.DataFrame({"age": TABLE[:, 0]}).lazy(), "use collect"),
    "generator": ((row for row in TABLE), "use list"),
    "map": (map(list, TABLE), "use list"),
    "set": ({1.0, 2.0}, "has no order"),
    "dict": ({"age": TABLE[:, 0]}, "np.column_stack"),
    "text": ("age", "text has no rows|No such file|not a .npy"),
    "ragged": ([[1.0, 2.0], [3.0]], "different lengths|rectangular"),
    "an object": (object(), "object has no rows"),
}
NOT_FINITE = {
    "nan": (with_entry(np.nan), "nan or inf: the first, missing .nan., in row 7, column 1"),
    "inf": (with_entry(-np.inf), "nan or inf: the first, infinite, in row 7, column 1"),
    "nan in a frame": (pd.DataFrame(with_entry(np.nan), columns=["age", "height"]), "in row 7, column 'height'"),
    "null in a polars frame": (pl.DataFrame({"age": TABLE[:, 0], "height": [1.0, None] * (N // 2)}), "in row 1, column 'height'"),
    "list with nan": (with_entry(np.nan).tolist(), "in row 7, column 1"),
}
TOO_LARGE = {
    "1e300": (with_entry(1e300, "float64"), r"1e\+300 in row 7, column 1, which does not fit float32"),
    "1e300 in a list": (with_entry(1e300, "float64").tolist(), r"does not fit float32"),
}
NO_ROWS = {"0-d": np.array(1.0), "number": 3.5, "empty list": [], "no rows": np.zeros((0, 2), "float32")}


def a_trainer(**settings):
    return Trainer(MLP(2, [3], 2, rng=0), capture=False, **settings)


def trained_on(fit):
    trainer = a_trainer()
    fit(trainer)
    return np.concatenate([p.data.ravel() for p in trainer.model.parameters()])


QUIET = {"epochs": 1, "batch_size": N, "progress": False}


def first(pair):
    return next(iter(pair))


# What each door makes of inputs, as numbers that depend on every entry.
INPUTS = {
    "fit": lambda X: trained_on(lambda t: t.fit(X, CLASSES, **QUIET)),
    "fit(validation)": lambda X: a_trainer().fit(TABLE, CLASSES, validation=(X, CLASSES), **QUIET)["val_loss"],
    "fit(Loader)": lambda X: trained_on(lambda t: t.fit(Loader(X, CLASSES, batch_size=N), epochs=1, progress=False)),
    "fit(Loader of pairs)": lambda X: trained_on(lambda t: t.fit(Loader([(X, CLASSES)]), epochs=1, progress=False)),
    "evaluate": lambda X: a_trainer().evaluate(X, CLASSES)["loss"],
    "score": lambda X: a_trainer().score(X, CLASSES),
    "forward": lambda X: a_trainer().forward(X),
    "predict": lambda X: a_trainer().predict(X),
    "diagnose": lambda X: a_trainer().diagnose(X, CLASSES)["loss"],
    "Diagnostics": lambda X: a_trainer().fit(TABLE, CLASSES, callbacks=Diagnostics(X, CLASSES), **QUIET)["loss"],
}
CARRIERS = {
    "Loader": lambda X: Loader(X, CLASSES, shuffle=False).read(0, 1)[0],
    "Loader of pairs": lambda X: first(Loader([(X, CLASSES)]))[0],
    "Tensor": lambda X: Tensor(X).data,
    "Dataset": lambda X: ds.Dataset(X, CLASSES).X,
}
SCALERS = {
    "StandardScaler.fit": lambda X: ds.StandardScaler().fit(X).mean_,
    "StandardScaler.transform": lambda X: ds.StandardScaler().fit(TABLE).transform(X),
    "StandardScaler.inverse_transform": lambda X: ds.StandardScaler().fit(TABLE).inverse_transform(X),
    "standardize": lambda X: ds.standardize(X),
}
ALL = {**INPUTS, **CARRIERS, **SCALERS}


def again(data):
    "Iterators are made anew, since a door may use them up."
    return (row for row in TABLE) if isinstance(data, type(x for x in ())) else map(list, TABLE) if isinstance(data, map) else data


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("door", ALL)
def test_the_same_numbers_from_every_container(door, kind):
    data, table = GOOD[kind]
    np.testing.assert_allclose(ALL[door](data), ALL[door](np.asarray(table, "float32")), rtol=1e-6)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("door", ALL)
def test_what_is_no_table_of_numbers_is_refused_with_its_cure(door, kind):
    data, words = REFUSED[kind]
    if door == "Dataset" and kind in ("strings", "dates", "time spans", "complex", "fields"):
        return                                                          # it carries them, and computes nothing
    if door == "Tensor" and kind in ("strings", "text", "dates", "dates with NaT", "time spans", "complex", "fields"):
        words = "is not supported; expected float32"
    with pytest.raises((TypeError, ValueError, FileNotFoundError), match=words) as caught:
        ALL[door](again(data))
    assert "See " in str(caught.value) or "chapter" in str(caught.value) or isinstance(caught.value, FileNotFoundError)


@pytest.mark.parametrize("kind", NOT_FINITE)
@pytest.mark.parametrize("door", [*INPUTS, "StandardScaler.fit", "standardize"])
def test_numbers_that_are_none_are_refused(door, kind):
    data, words = NOT_FINITE[kind]
    with pytest.raises(ValueError, match=words if door not in ("fit(Loader of pairs)",) else "nan or inf"):
        ALL[door](data)


@pytest.mark.parametrize("door", [*CARRIERS, "StandardScaler.transform", "StandardScaler.inverse_transform"])
def test_a_nan_that_is_only_carried_stays_a_nan(door):
    out = ALL[door](with_entry(np.nan))
    assert np.argwhere(np.isnan(out)).tolist() == [[7, 1]]


@pytest.mark.parametrize("kind", TOO_LARGE)
@pytest.mark.parametrize("door", INPUTS)
def test_a_finite_number_that_float32_has_no_room_for_is_called_that(door, kind):
    data, words = TOO_LARGE[kind]
    with pytest.raises(ValueError, match=words) as caught:
        INPUTS[door](data)
    assert "nan" not in str(caught.value)


def test_numbers_that_fit_no_float32_elsewhere():
    with pytest.raises(ValueError, match="does not fit float32"):
        Tensor([1e300])
    with pytest.raises(ValueError, match="does not fit float32"):
        Tensor(np.array([1e300]), dtype="float32")
    assert Tensor(np.array([1e300])).dtype == "float64" and np.isinf(Tensor([np.inf]).data[0])
    scaler = ds.StandardScaler().fit(np.array([[0.0], [1e-30]]))
    with pytest.raises(ValueError, match="row 0, column 0 gives a number that does not fit float32"):
        scaler.transform(np.float32([[3e38]]))
    with pytest.raises(ValueError, match="does not fit int64"):
        Trainer(Sequential(Embedding(3, 2)), "mse_loss").predict(np.array([[2**63]], "uint64"))
    with pytest.raises(ValueError, match="does not fit float64"):
        Loader(np.array([[10**400]], object), [1])
    large = Trainer(Linear(1, 1, rng=0, dtype="float64"), "mse_loss")
    assert large.forward([[1e300]]).shape == (1, 1)                     # a model of float64 has room


@pytest.mark.parametrize("kind", NO_ROWS)
@pytest.mark.parametrize("door", [*INPUTS, "Loader", "Loader of pairs", "StandardScaler.fit"])
def test_what_has_no_rows_is_refused(door, kind):
    with pytest.raises(ValueError, match="example|rows|shape"):
        ALL[door](NO_ROWS[kind])


def test_rows_of_a_mapped_file_are_checked_when_they_are_read(tmp_path):
    np.save(tmp_path / "X.npy", with_entry(np.nan))
    np.save(tmp_path / "y.npy", CLASSES)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for call in (lambda: a_trainer().fit(tmp_path / "X.npy", tmp_path / "y.npy", **QUIET), lambda: a_trainer().predict(mapped),
                 lambda: a_trainer().evaluate(mapped, CLASSES)):
        with pytest.raises(ValueError, match="in row 7, column 1"):
            call()


# Answers

ANSWERS = {
    "masked": (np.ma.masked_array(CLASSES, mask=CLASSES > 0), "masked"),
    "None": ([None, *CLASSES[1:].tolist()], "missing value .None. in row 0"),
    "NA": (pd.Series([1, None] * (N // 2), dtype="Int64"), "missing .*in row 1"),
    "nan": (np.where(CLASSES > 0, np.nan, 0.0), "nan or inf: the first, missing .nan., in row 1"),
    "null": (pl.Series([1, None] * (N // 2)), "missing .nan., in row 1"),
    "null among bools": (pl.Series([True, None] * (N // 2)), "missing value .None. in row 1"),
    "text": (["a", "b"] * (N // 2), "text; number the classes from 0: classes, y = np.unique|of type str"),
    "text of pandas": (pd.Series(["a", "b"] * (N // 2)), "of type str in row 0|text; number the classes"),
    "categories": (pd.Series(["a", "b"] * (N // 2), dtype="category"), "of type str in row 0|text; number the classes"),
    "dates": (np.full(N, "2020-01-01", "M8[D]"), "dates"),
    "sparse": (sp.csr_matrix(CLASSES[:, None]), "toarray"),
    "generator": ((k for k in range(N)), "list"),
    "large uint64": (np.full(N, 2**63, "uint64"), "does not fit int64"),
}


def answer_doors(loss, outputs):
    def trainer():
        return Trainer(Linear(2, outputs, rng=0), loss, capture=False)

    return {
        "fit": lambda y: trainer().fit(TABLE, y, **QUIET),
        "fit(validation)": lambda y: trainer().fit(TABLE, np.zeros(N, int) if outputs == 2 else np.zeros((N, 1)), validation=(TABLE, y),
                                                   **QUIET),
        "fit(Loader of pairs)": lambda y: trainer().fit(Loader([(TABLE, y)]), epochs=1, progress=False),
        "evaluate": lambda y: trainer().evaluate(TABLE, y),
        "diagnose": lambda y: trainer().diagnose(TABLE, y),
    }


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("door", answer_doors("mse_loss", 1))
def test_answers_that_are_missing_or_no_numbers_are_refused(door, kind):
    data, words = ANSWERS[kind]
    with pytest.raises((TypeError, ValueError), match=words):
        answer_doors("cross_entropy", 2)[door](data if kind != "generator" else (k for k in range(N)))


@pytest.mark.parametrize("loss", ["mse_loss", "binary_cross_entropy_with_logits"])
@pytest.mark.parametrize("value, words", [(np.nan, "missing .nan., in row 7, column 0"), (np.inf, "infinite, in row 7, column 0"),
                                          (1e300, "does not fit float32")])
def test_values_that_are_no_targets_are_refused_for_every_loss(loss, value, words):
    y = np.zeros((N, 1))
    y[7] = value
    for door in answer_doors(loss, 1).values():
        with pytest.raises(ValueError, match=words):
            door(y)


@pytest.mark.parametrize("labels", [CLASSES.tolist(), CLASSES.astype("uint8"), CLASSES > 0, pd.Series(CLASSES, dtype="Int64"),
                                    pl.Series(CLASSES), CLASSES.astype(object), Tensor(CLASSES)], ids=lambda y: type(y).__name__)
def test_labels_from_every_container(labels):
    assert a_trainer().evaluate(TABLE, labels) == a_trainer().evaluate(TABLE, CLASSES)


def test_a_loss_of_ones_own_may_leave_out_what_is_missing():
    y = np.where(np.arange(N) == 3, np.nan, 1.0)[:, None].astype("float32")

    def there(out, y):
        known = ~np.isnan(y)
        return (((out - np.where(known, y, 0)) * known) ** 2).sum() * (1 / known.sum())

    trainer = Trainer(Linear(2, 1, rng=0), there, capture=False)
    assert np.isfinite(trainer.fit(TABLE, y, **QUIET)["loss"]).all()
    np.testing.assert_allclose(trainer.evaluate(TABLE, y)["loss"],
                               np.mean((trainer.forward(TABLE)[np.arange(N) != 3] - 1) ** 2), rtol=1e-5)


@pytest.mark.parametrize("loss, outputs", [("cross_entropy", 2), ("binary_cross_entropy_with_logits", 1)])
def test_no_class_follows_from_an_output_of_nan(loss, outputs):
    trainer = Trainer(Linear(2, outputs, rng=0), loss)
    trainer.model.weight.data[0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="output for row 0 is nan"):
        trainer.predict(TABLE)
    y = np.zeros(N, int) if outputs == 2 else np.zeros((N, 1))
    assert trainer.score(TABLE, y) == 0, "nan counted as a right answer"
    assert np.isnan(trainer.forward(TABLE)).any()


# Integers stay integers

class Bag(Module):
    def __init__(self, first):
        for name in (("emb", "out") if first else ("out", "emb")):
            setattr(self, name, Embedding(5, 3, rng=0) if name == "emb" else Linear(3, 2, rng=1))

    def forward(self, x):
        return self.out(self.emb(x).mean(1))


class Inside(Module):
    def __init__(self):
        self.scale, self.parts = Linear(2, 2, rng=0), [{"bag": Bag(False)}]

    def forward(self, x):
        return self.scale(self.parts[0]["bag"](x))


class Both(Module):
    "A table of vectors and a linear layer on the same integers."

    def __init__(self):
        self.linear, self.emb = Linear(4, 2, rng=0), Embedding(5, 2, rng=0)

    def forward(self, x):
        return self.linear(x) + self.emb(x).mean(1)


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("make", [lambda: Bag(True), lambda: Bag(False), Inside, Both])
def test_an_embedding_gets_integers_wherever_it_stands(make, capture):
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, 5, (20, 4)), rng.integers(0, 2, 20)
    trainer = Trainer(make(), capture=capture)
    first = trainer.fit(ids.astype("uint8"), y, epochs=1, progress=False, validation=(ids, y))
    assert np.isfinite(first["val_loss"]).all()
    trainer.fit(Loader([(ids, y)]), epochs=1, progress=False)
    assert trainer.predict(ids).shape == (20,) and np.isfinite(trainer.evaluate(ids, y)["loss"])
    assert np.isfinite(trainer.diagnose(ids, y)["loss"])


def test_an_embedding_that_comes_later_gets_integers_too():
    trainer = Trainer(Sequential(ReLU(), Linear(3, 2, rng=0)))
    trainer.model[0] = Embedding(5, 3, rng=0)
    assert trainer.forward(np.array([1, 2])).shape == (2, 2)


# Columns have names

def frames():
    polars = pl.DataFrame({"age": TABLE[:, 0], "height": TABLE[:, 1]})
    return {"pandas": (FRAME, FRAME[["height", "age"]], FRAME.rename(columns={"age": "Age"})),
            "polars": (polars, polars.select("height", "age"), polars.rename({"age": "Age"}))}


NAMED = {
    "fit": lambda t, X: t.fit(X, CLASSES, **QUIET)["loss"],
    "fit(Loader)": lambda t, X: t.fit(Loader(X, CLASSES), epochs=1, progress=False)["loss"],
    "fit(Loader of pairs)": lambda t, X: t.fit(Loader([(X, CLASSES)]), epochs=1, progress=False)["loss"],
    "fit(validation)": lambda t, X: t.fit(TABLE, CLASSES, validation=(X, CLASSES), **QUIET)["val_loss"],
    "evaluate": lambda t, X: t.evaluate(X, CLASSES)["loss"],
    "score": lambda t, X: t.score(X, CLASSES),
    "predict": lambda t, X: t.predict(X),
    "forward": lambda t, X: t.forward(X),
    "diagnose": lambda t, X: t.diagnose(X, CLASSES)["loss"],
}


@pytest.mark.parametrize("kind", frames())
@pytest.mark.parametrize("door", NAMED)
def test_columns_are_compared_by_name(door, kind):
    def fitted():
        trainer = a_trainer()
        trainer.fit(frame, CLASSES, **QUIET)
        assert trainer.features == ("age", "height")
        return trainer

    frame, turned, renamed = frames()[kind]
    expected = NAMED[door](fitted(), TABLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(NAMED[door](fitted(), frame), expected)
    with pytest.warns(UserWarning, match="another order than in fit"):
        np.testing.assert_array_equal(NAMED[door](fitted(), turned), expected)
    trainer = fitted()
    with pytest.raises(ValueError, match="missing: 'age'; not seen in fit: 'Age'"):
        NAMED[door](trainer, renamed)
    assert trainer.features == ("age", "height")


def test_a_warning_points_at_the_line_of_the_user():
    trainer = a_trainer()
    trainer.fit(FRAME, CLASSES, **QUIET)
    for call in (lambda X: trainer.predict(X), lambda X: trainer.evaluate(X, CLASSES), lambda X: trainer.fit(X, CLASSES, **QUIET)):
        with pytest.warns(UserWarning) as caught:
            call(FRAME[["height", "age"]])
        assert caught[0].filename == __file__


def test_names_are_taken_from_the_first_table_that_has_any():
    trainer = a_trainer()
    trainer.fit(TABLE, CLASSES, **QUIET)
    assert trainer.features is None
    trainer.fit(pd.DataFrame(TABLE), CLASSES, **QUIET)                  # 0 and 1 are no names
    assert trainer.features is None
    with pytest.raises(TypeError):
        trainer.fit(FRAME, CLASSES, validation=(WORDS, CLASSES), **QUIET)
    assert trainer.features is None, "a fit that did not begin has changed something"
    trainer.fit(Loader([(FRAME, CLASSES)]), epochs=1, progress=False)
    assert trainer.features == ("age", "height")


def test_names_are_kept_in_a_checkpoint(tmp_path):
    trainer = a_trainer()
    trainer.fit(FRAME, CLASSES, **QUIET)
    expected = trainer.predict(FRAME)
    trainer.save(tmp_path / "run")
    loaded = Trainer.load(tmp_path / "run", capture=False)
    assert loaded.features == ("age", "height")
    with pytest.warns(UserWarning, match="another order"):
        np.testing.assert_array_equal(loaded.predict(FRAME[["height", "age"]]), expected)
    state = trainer.state_dict()
    del state["settings"]["features"]                                   # as a file of the first version
    loaded.load_state_dict(state)
    assert loaded.features is None


def test_the_scaler_compares_columns_too():
    scaler = ds.StandardScaler().fit(FRAME)
    expected = scaler.transform(TABLE)
    assert scaler.feature_names_ == ("age", "height")
    with pytest.warns(UserWarning, match="another order"):
        np.testing.assert_array_equal(scaler.transform(FRAME[["height", "age"]]), expected)
    with pytest.raises(ValueError, match="not seen in fit: 'Age'"):
        scaler.transform(FRAME.rename(columns={"age": "Age"}))
    assert ds.StandardScaler().fit(TABLE).feature_names_ is None


def test_batches_of_tables_are_put_in_one_order():
    pairs = [(FRAME[:6], CLASSES[:6]), (FRAME[["height", "age"]][6:], CLASSES[6:])]
    with pytest.warns(UserWarning, match="another order"):
        np.testing.assert_array_equal(np.concatenate([x for x, _ in Loader(pairs)]), TABLE)


# Splitting

def test_split_keeps_tables_and_masks():
    masked = np.ma.masked_array(TABLE, mask=TABLE > 1)
    polars = pl.DataFrame({"age": TABLE[:, 0]})
    rows = np.arange(N)
    parts = ds.train_test_split(rows, FRAME, masked, polars, WORDS, FRAME["age"], CLASSES.tolist(), test_size=3)
    for k, train in enumerate(parts[:2]):
        frame, mask, column, words, series, classes = parts[2 + k::2]
        assert frame.equals(FRAME.iloc[train]) and column["age"].to_list() == TABLE[train, 0].tolist()
        assert (np.ma.getmaskarray(mask) == masked.mask[train]).all() and (words == WORDS[train]).all()
        assert series.tolist() == TABLE[train, 0].tolist() and classes.tolist() == CLASSES[train].tolist()


@pytest.mark.parametrize("kind", ["sparse", "generator", "polars lazy frame", "None", "dict", "ragged"])
def test_what_cannot_be_split_is_refused_with_its_cure(kind):
    data, words = REFUSED[kind]
    with pytest.raises((TypeError, ValueError), match=words):
        ds.train_test_split(again(data))


@pytest.mark.parametrize("labels", [np.where(CLASSES > 0, np.nan, 0.0), [None, *CLASSES[1:].tolist()],
                                    pd.Series([1, None] * (N // 2), dtype="Int64"), np.ma.masked_array(CLASSES, mask=CLASSES > 0),
                                    np.array(["2020-01-01", "NaT"] * (N // 2), "M8[D]")], ids=repr)
def test_a_missing_class_is_no_class_to_stratify_by(labels):
    with pytest.raises(ValueError, match="missing|masked|no class"):
        ds.train_test_split(TABLE, stratify=labels, test_size=4)


def test_stratified_by_text():
    words = pd.Series(np.where(CLASSES, "yes", "no"))
    train, test = ds.train_test_split(CLASSES, stratify=words, test_size=4)
    assert test.sum() == 2


# Who may be where at once

def test_fit_inside_a_callback_is_refused():
    class Again(Callback):
        def on_epoch_end(self, trainer, row):
            trainer.predict(TABLE)                                      # looking is allowed
            trainer.fit(TABLE, CLASSES, **QUIET)

    trainer = a_trainer()
    with pytest.raises(RuntimeError, match="called from a callback of its own while Trainer.fit is at work"):
        trainer.fit(TABLE, CLASSES, callbacks=Again(), **QUIET)
    assert len(trainer.fit(TABLE, CLASSES, **QUIET)) == 2, "the Trainer is free again"


def from_a_thread(call):
    said = []

    def run():
        try:
            said.append(call())
        except RuntimeError as error:
            said.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return said[0]


@pytest.mark.parametrize("what", ["fit", "predict", "evaluate", "diagnose"])
def test_two_threads_on_one_trainer_are_refused(what):
    said = []

    class Meanwhile(Callback):
        def on_epoch_end(self, trainer, row):
            calls = {"fit": lambda: trainer.fit(TABLE, CLASSES, **QUIET), "predict": lambda: trainer.predict(TABLE),
                     "evaluate": lambda: trainer.evaluate(TABLE, CLASSES), "diagnose": lambda: trainer.diagnose(TABLE, CLASSES)}
            said.append(from_a_thread(calls[what]))

    trainer = a_trainer()
    trainer.fit(TABLE, CLASSES, callbacks=Meanwhile(), **QUIET)
    assert isinstance(said[0], RuntimeError) and "called from another thread while Trainer.fit is at work" in str(said[0])
    assert not isinstance(from_a_thread(lambda: trainer.predict(TABLE)), Exception)


def test_an_error_while_measuring_leaves_the_trainer_free():
    def broken(out, y):
        raise OSError("no")

    trainer = Trainer(Linear(2, 2, rng=0), broken, capture=False)
    try:
        trainer.evaluate(TABLE, CLASSES)
    except OSError as kept:                                             # its traceback holds the frames
        assert not isinstance(from_a_thread(lambda: trainer.predict(TABLE)), Exception), kept
    assert trainer.model.training


# Frozen layers

def normed():
    return MLP(2, [4, 4], 2, rng=0, norm="batch", dropout=0.5)


def freeze_by_mode(model):
    model[1].eval()
    return model.parameters()


def freeze_by_flag(model):
    model[1].requires_grad_(False)
    return [p for p in model.parameters() if p.requires_grad]


def freeze_by_optimizer(model):
    own = {id(p) for p in model[1].parameters()}
    return [p for p in model.parameters() if id(p) not in own]


@pytest.mark.parametrize("capture", [True, False])
@pytest.mark.parametrize("freeze", [freeze_by_mode, freeze_by_flag, freeze_by_optimizer])
def test_a_layer_that_was_frozen_stays_frozen(freeze, capture):
    model = normed()
    assert isinstance(model[1], BatchNorm1d)
    other = next(m for m in model.modules() if isinstance(m, BatchNorm1d) and m is not model[1])
    trainer = Trainer(model, optimizer=optimizers.SGD(freeze(model), lr=0.1), capture=capture)
    before, moved = model[1].running_mean.copy(), other.running_mean.copy()
    modes = [m.training for m in model.modules()]
    trainer.fit(TABLE, CLASSES, validation=(TABLE, CLASSES), epochs=3, batch_size=4, progress=False)
    trainer.predict(TABLE)
    trainer.diagnose(TABLE, CLASSES)
    trainer.fit(TABLE, CLASSES, **QUIET)
    np.testing.assert_array_equal(model[1].running_mean, before)
    assert (other.running_mean != moved).any(), "the others learn on"
    assert [m.training for m in model.modules()] == modes


@pytest.mark.parametrize("capture", [True, False])
def test_a_layer_can_be_frozen_and_set_free_between_epochs(capture):
    means = []

    class Freeze(Callback):
        def on_epoch_begin(self, trainer):
            trainer.model[1].train(len(means) != 1)                     # frozen in the second epoch

        def on_epoch_end(self, trainer, row):
            means.append(trainer.model[1].running_mean.copy())

    Trainer(normed(), capture=capture).fit(TABLE, CLASSES, epochs=3, batch_size=4, callbacks=Freeze(), progress=False)
    assert (means[0] == means[1]).all() and (means[1] != means[2]).any()


def test_a_model_in_evaluation_mode_as_a_whole_is_trained():
    model = normed()
    model.eval()
    before = model[1].running_mean.copy()
    Trainer(model).fit(TABLE, CLASSES, **QUIET)
    assert model.training and (model[1].running_mean != before).any()


def test_freezing_after_a_fit_is_noticed():
    model = MLP(2, [3], 2, rng=0)
    trainer = Trainer(model, optimizer=optimizers.SGD(model.parameters(), lr=0.1))
    trainer.fit(TABLE, CLASSES, **QUIET)
    model[0].requires_grad_(False)
    before, head = model[0].weight.data.copy(), model[2].weight.data.copy()
    trainer.fit(TABLE, CLASSES, **QUIET)
    np.testing.assert_array_equal(model[0].weight.data, before)
    assert (model[2].weight.data != head).any()


# Metrics and modes

@pytest.mark.parametrize("y, out, r2", [
    ([1.0, 1.0], [1.0, 1.0], 1.0), ([1.0, 1.0], [1.0, 2.0], 0.0), ([0.1, 0.1, 0.1], [0.1, 0.1, 0.2], 0.0), ([1.0], [2.0], np.nan),
    ([0.0, 2.0], [0.0, 2.0], 1.0), ([0.0, 2.0], [1.0, 1.0], 0.0), ([0.0, 2.0], [2.0, 0.0], -3.0),
])
def test_r2_of_targets_that_do_not_vary(y, out, r2):
    from sklearn.metrics import r2_score

    class Say(Module):
        def __init__(self):
            self.linear = Linear(1, 1, rng=0)

        def forward(self, x):
            return x + 0 * self.linear(x)

    trainer = Trainer(Say(), "mse_loss", metrics="r2_score")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = trainer.evaluate(np.array(out)[:, None], np.array(y)[:, None])["r2_score"]
        if y[0] in (0, 1) and len(y) > 1:                               # 0.1 is rounded, and so scikit-learn's mean of it
            np.testing.assert_allclose(r2_score(y, out), r2, atol=1e-12)
    np.testing.assert_allclose(value, r2, atol=1e-6)


@pytest.mark.parametrize("metric", ["r2_score", "mean_absolute_error"])
def test_metrics_never_broadcast(metric):
    trainer = Trainer(Linear(2, 1, rng=0), lambda out, y: ((out[:, 0] - y) ** 2).mean(), metrics=metric)
    with pytest.raises(ValueError, match=rf"{metric} compares outputs of shape \({N}, 1\) with targets of shape \({N},\)"):
        trainer.evaluate(TABLE, np.zeros(N))


def better(monitor, mode="auto"):
    "Whether larger is better, as the three callbacks take it."
    class Run:
        stop_training, model, history = False, MLP(1, [], 1), []

    stopper, run = EarlyStopping(monitor, 1, mode=mode, restore_best_weights=False), Run()
    for value in (1.0, 2.0):
        stopper.on_epoch_end(run, {monitor: value})
    return not run.stop_training


@pytest.mark.parametrize("monitor, larger", [("loss", False), ("val_loss", False), ("val_mean_absolute_error", False), ("error", False),
                                             ("accuracy", True), ("val_accuracy", True), ("val_r2_score", True), ("f1_score", True),
                                             ("balanced_accuracy", True), ("val_brier_loss", False)])
def test_auto_knows_these_names(monitor, larger):
    assert better(monitor) == larger


@pytest.mark.parametrize("monitor", ["val_f1", "val_auc", "precision", "mse", "perplexity", "lr", "loss_of_nerve", "scores"])
def test_auto_refuses_to_guess(monitor, tmp_path):
    paths = {"path": tmp_path / "a", "best": tmp_path / "b"}
    for make in (lambda **m: EarlyStopping(monitor, **m), lambda **m: Checkpoint(**paths, monitor=monitor, **m)):
        with pytest.raises(ValueError, match=f"{monitor!r} is none of them; say mode='min' or mode='max'"):
            make()
        make(mode="max")
    assert better(monitor, "max") and not better(monitor, "min")


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("start", [-1.0, 1.0, 0.0])
def test_a_plateau_is_one_below_zero_too(start, mode, threshold_mode):
    def cuts(values):
        optimizer = optimizers.SGD(Linear(1, 1, rng=0).parameters(), lr=1.0)
        schedule = ReduceLROnPlateau(optimizer, mode, patience=2, threshold=0.1, threshold_mode=threshold_mode)
        for value in values:
            schedule.step(value)
        return optimizer.param_groups[0]["lr"] < 1

    way = 1 if mode == "max" else -1
    margin = 0.1 if threshold_mode == "abs" else 0.1 * abs(start)
    assert cuts([start] * 4)
    assert cuts([start, *[start + way * 0.99 * margin] * 3]) or not margin
    assert not cuts([start + way * 0.5 * k for k in range(8)]), "it gets better, across 0 too"
    assert not cuts([start, start, start, start + way * (1.01 * margin + 1e-9)])


@pytest.mark.parametrize("value", [None, "0.5", True, np.ma.masked, [1.0, 2.0], np.zeros(2), 1j], ids=repr)
def test_a_plateau_takes_one_number(value):
    schedule = ReduceLROnPlateau(optimizers.SGD(Linear(1, 1, rng=0).parameters(), lr=1.0))
    with pytest.raises(TypeError, match="one number"):
        schedule.step(value)


def test_what_is_not_finite_is_never_better():
    for mode in ("min", "max"):
        schedule = ReduceLROnPlateau(optimizers.SGD(Linear(1, 1, rng=0).parameters(), lr=1.0), mode)
        for value in (np.inf, -np.inf, np.nan):
            schedule.step(value)
        assert schedule.best is None and schedule.num_bad_epochs == 3
        schedule.step(1.0)
        for value in (np.inf, -np.inf, np.nan):
            schedule.step(value)
        assert schedule.best == 1.0


def test_a_cut_of_just_eps_is_not_made():
    for eps, cut in ((0.5, False), (0.499, True)):
        optimizer = optimizers.SGD(Linear(1, 1, rng=0).parameters(), lr=1.0)
        schedule = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=eps)
        schedule.step(1.0)
        schedule.step(1.0)
        assert (optimizer.param_groups[0]["lr"] == 0.5) == cut


# Messages

VALUES = [np.int64(-7), np.float32(0.5), np.bool_(False), np.str_("nothing")]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("call", [
    lambda v: ds.make_spirals(v), lambda v: ds.make_spirals(noise=v if v != 0.5 else np.float32(-0.5)),
    lambda v: ds.make_spirals(rng=v), lambda v: ds.read_csv("x", target=v, task=v), lambda v: Loader(TABLE, CLASSES, batch_size=v),
    lambda v: Loader(TABLE, CLASSES, seed=v), lambda v: EarlyStopping(v), lambda v: EarlyStopping(patience=v),
    lambda v: EarlyStopping(mode=v), lambda v: Checkpoint("a", every=v), lambda v: Checkpoint(v) if not isinstance(v, str) else 1 / 0,
    lambda v: ReduceLROnPlateau(v), lambda v: ReduceLROnPlateau(optimizers.SGD(Linear(1, 1).parameters(), lr=1.0), mode=v),
    lambda v: a_trainer().fit(TABLE, CLASSES, epochs=v if v != 0.5 else [v]), lambda v: a_trainer(metrics=[v]),
    lambda v: Trainer(Linear(1, 1), v), lambda v: Trainer(Linear(1, 1), seed=v if v != 0.5 else [v]),
    lambda v: Diagnostics(TABLE, CLASSES, bins=[v]),
])
def test_messages_show_values_plainly(call, value):
    with pytest.raises((ValueError, TypeError, ZeroDivisionError, FileNotFoundError)) as caught:
        call(value)
    assert not re.search(r"\bnp\.|numpy\.", str(caught.value)), str(caught.value)


def test_a_class_in_a_message_is_shown_plainly():
    for labels in (np.array([0, 0, 0, 1]), np.array(["a", "a", "a", "b"]), np.array([0.5, 0.5, 0.5, 1.5])):
        with pytest.raises(ValueError, match="has a single row") as caught:
            ds.train_test_split(np.arange(4), stratify=labels)
        assert "np." not in str(caught.value)


def test_the_library_imports_no_library_of_tables(sh):
    code = ("import sys, numpy as np, deepnotes as dn; from deepnotes import datasets; "
            "dn.Trainer(dn.MLP(2, [2], 2), capture=False).fit(np.ones((4, 2)), [0, 1, 0, 1], epochs=1); "
            "datasets.StandardScaler().fit(np.eye(2)); print(sorted({'pandas', 'polars'} & set(sys.modules)))")
    status, said = sh(sys.executable, "-c", code)
    assert status == 0 and said.strip().endswith("[]"), said


def test_a_history_becomes_a_table():
    trainer = a_trainer()
    history = trainer.fit(TABLE, CLASSES, validation=(TABLE, CLASSES), **QUIET)
    table = pd.DataFrame(dict(history))
    assert list(table.columns) == list(history) and table["val_loss"].tolist() == history["val_loss"]
