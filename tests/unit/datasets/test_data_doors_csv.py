"""Tables in files: what is missing is missing in every column, and most files that people have can be read."""
import numpy as np
import pandas as pd
import pytest

from deepnotes.datasets import read_csv


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        return tmp_path / "t.csv"
    return write


@pytest.mark.parametrize("word", ["", "NA", "N/A", "NaN", "nan", "None", "null", "<NA>", "#N/A"])
def test_what_is_missing_is_missing_in_every_column(table, word):
    with pytest.raises(ValueError, match="line 3: the target is missing"):
        read_csv(table(f"a,y\n1,0\n2,{word}\n3,1\n"))
    with pytest.raises(ValueError, match="line 3: the target is missing"):
        read_csv(table(f"a,y\n1,0\n2,{word}\n3,1\n"), task="regression")
    for text in ("refuse", "one-hot"):
        with pytest.raises(ValueError, match="line 3: column 0 .'a'.: the value is missing"):
            read_csv(table(f"a,y\nred,0\n{word},1\n"), text=text)


def test_a_word_that_means_something_here_can_be_kept(table):
    assert read_csv(table("a,country\n1,NA\n2,DE\n"), missing=("",)).classes == ("DE", "NA")


def test_row_labels_are_no_feature(table):
    data = read_csv(table(pd.DataFrame({"a": [1, 3], "b": [2, 4], "y": ["x", "z"]}).to_csv()))
    assert data.features == ("a", "b") and data.X.tolist() == [[1, 2], [3, 4]]
    for index in ("id", 0, -3):
        assert read_csv(table("id,a,y\n7,1,x\n8,2,z\n"), index=index).features == ("a",)


def test_columns_are_picked_in_the_order_asked_for(table):
    path = table("a,name,b,y\n1,Ann,2,x\n3,Bob,4,z\n")
    data = read_csv(path, columns=["b", 0])
    assert data.features == ("b", "a") and data.X.tolist() == [[2, 1], [4, 3]] and data.X.flags.c_contiguous
    for columns in (["c"], ["y"], ["a", 0], [], [9]):
        with pytest.raises(ValueError, match="column"):
            read_csv(path, columns=columns)
    with pytest.raises(ValueError, match="got 'Ann'; pick columns="):
        read_csv(path)


def test_true_and_false_are_one_and_zero(table):
    data = read_csv(table("a,b,y\nTrue,false,True\nFalse,true,False\n"))
    assert data.X.tolist() == [[1, 0], [0, 1]] and data.classes == ("False", "True")
    assert read_csv(table("a,y\n1,True\n2,False\n"), task="regression").y.tolist() == [[1], [0]]


def test_text_becomes_columns_of_zeros_and_ones(table):
    data = read_csv(table("a,color,y\n1,red,x\n2,blue,z\n3,red,x\n"), text="one-hot")
    assert data.features == ("a", "color=blue", "color=red")
    assert data.X.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]] and data.X.dtype == np.float32
    with pytest.raises(ValueError, match="got 'red'"):                  # numbers and text in one column are a slip
        read_csv(table("a,y\n1,x\nred,z\n"), text="one-hot")


def test_encodings_lines_and_delimiters(table):
    path = table("Größe;y\n1;ä\n2;b\n", "latin-1")
    with pytest.raises(ValueError, match="UTF-8.*encoding=, such as 'latin-1'"):
        read_csv(path, delimiter=";")
    data = read_csv(path, delimiter=";", encoding="latin-1")
    assert data.features == ("Größe",) and data.classes == ("b", "ä")
    data = read_csv(table("# made by\n# someone\na, y\n1, \"x, y\"\n2, z\nq, z\n".replace("q", "3")), skip_lines=2)
    assert data.classes == ("x, y", "z")
    with pytest.raises(ValueError, match="line 4, column 0"):
        read_csv(table("# made by\na,y\n1,x\nq,z\n"), skip_lines=1)
    assert read_csv(table("a   y\n1   x\n2     z\n"), delimiter=" ").X.tolist() == [[1], [2]]
    with pytest.raises(ValueError, match="does not fit float32"):
        read_csv(table("a,y\n1e300,x\n"))
