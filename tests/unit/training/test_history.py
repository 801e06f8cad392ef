"""`History`: a mapping of columns, and the table of pandas that it becomes."""
import collections.abc
import copy
import json
import math
import pickle
import sys

import numpy as np
import pytest

from deepnotes.training import History


@pytest.fixture
def history():
    told = History()
    told.append(loss=2.0)
    told.append(loss=1.0, val_loss=1.5)
    return told


def test_it_is_a_mapping_whose_length_is_the_number_of_epochs(history):
    columns = {"epoch": [1, 2], "loss": [2.0, 1.0], "val_loss": [None, 1.5]}
    assert isinstance(history, collections.abc.Mapping) and len(history) == 2
    assert list(history) == list(history.keys()) == list(columns)
    assert list(history.items()) == list(columns.items()) and list(history.values()) == list(columns.values())
    assert (len(history.keys()), len(history.items()), len(history.values())) == (3, 3, 3)        # not the number of epochs
    assert dict(history) == {**history} == columns == json.loads(json.dumps(dict(history)))
    assert "loss" in history and "accuracy" not in history
    assert history.get("loss") is history["loss"] and history.get("accuracy") is None and history.get("accuracy", 3) == 3
    with pytest.raises(KeyError, match="there is no column 'acc'; columns: epoch, loss, val_loss"):
        history["acc"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_copies_are_equal_and_their_own(history, again):
    other = again(history)
    assert other == history and type(other) is History
    other.append(loss=0.5)
    assert len(history) == 2 and other != history


def test_as_a_frame(history):
    pandas = pytest.importorskip("pandas")
    frame = history.to_frame()
    assert list(frame.columns) == ["epoch", "loss", "val_loss"] and len(frame) == 2
    assert [str(kind) for kind in frame.dtypes] == ["int64", "float64", "float64"]
    assert math.isnan(frame["val_loss"][0]) and frame["val_loss"][1] == 1.5
    assert list(History().to_frame().columns) == ["epoch"]
    frame.loc[0, "loss"] = 100.0                        # the table is the user's own
    assert history["loss"][0] == 2.0
    assert pandas.DataFrame(dict(history)).shape == (2, 3)


def test_without_pandas_the_error_names_other_ways(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"History\.to_frame: needs pandas.*to_csv\(path\).*dict\(history\)"):
        history.to_frame()


def test_what_would_make_a_frame_of_its_names_is_refused(history):
    pandas = pytest.importorskip("pandas")
    for made in (np.asarray, np.array, pandas.DataFrame):
        with pytest.raises(TypeError, match=r"History: .*use history\.to_frame\(\)"):
            made(history)


def test_polars_takes_the_dict(history):
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(dict(history))["val_loss"].to_list() == [None, 1.5]


def test_the_plot_shows_each_quantity_with_its_validation_from_where_it_was_measured(history):
    plt = pytest.importorskip("matplotlib.pyplot")
    history.append(loss=0.5, val_loss=1.25)
    assert [ax.get_ylabel() for ax in History().plot()] == ["loss"]
    two = History()
    two.append(loss=2.0, accuracy=0.5)
    assert [ax.get_ylabel() for ax in two.plot()] == ["loss", "accuracy"]
    axes = history.plot()
    try:
        shown = {line.get_label(): line.get_data() for line in axes[0].lines}
        assert len(axes) == 1 and axes[0].get_ylabel() == "loss" and list(shown) == ["training", "validation"]
        np.testing.assert_array_equal(shown["training"], [[1, 2, 3], [2.0, 1.0, 0.5]])
        np.testing.assert_array_equal(shown["validation"], [[1, 2, 3], [math.nan, 1.5, 1.25]])
    finally:
        plt.close("all")


def test_it_shows_what_was_measured_last_and_a_long_one_its_ends(history):
    assert repr(History()) == "History(no epochs yet)" and repr(history) == "History(epoch=2, loss=1, val_loss=1.5)"
    history.append(loss=0.25)
    assert repr(history) == "History(epoch=3, loss=0.25)"                    # nothing was validated in the last epoch
    assert "…" not in history._repr_html_()
    for epoch in range(4, 100):
        history.append(loss=1 / epoch)
    shown = history._repr_html_()
    assert shown.count("…") == 3 and ">99<" in shown and ">50<" not in shown
