"""deepnotes.datasets: what every set promises, splits, standardization, and readers that trust no file."""

import builtins
import gzip
import inspect
import math
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepnotes import datasets as ds

DATA = ROOT / "tests" / "data"
PLANE = [ds.make_noisy_xor, ds.make_spirals, ds.make_moons, ds.make_circles, ds.make_blobs]
RANDOM = [*PLANE, ds.make_multilabel, ds.make_memory, ds.make_regression_1d]


# ---- what every set promises


@pytest.mark.parametrize("make", RANDOM, ids=lambda f: f.__name__)
def test_same_seed_same_bits_and_another_seed_other_points(make):
    a, b, c = make(rng=7), make(rng=np.random.default_rng(7)), make(rng=8)
    assert a.X.tobytes() == b.X.tobytes() and a.y.tobytes() == b.y.tobytes()
    assert a.X.tobytes() != c.X.tobytes()


@pytest.mark.parametrize("make", RANDOM, ids=lambda f: f.__name__)
@pytest.mark.parametrize("rng", ["0", -1, 1.5, True, [1, 2]])
def test_a_seed_is_a_generator_or_a_whole_number(make, rng):
    with pytest.raises(TypeError, match="rng is a numpy Generator"):
        make(rng=rng)


@pytest.mark.parametrize("make", PLANE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [4, 97, 300])
def test_points_of_the_plane(make, n):
    X, y = data = make(n, rng=0)
    assert X.shape == (n, 2) and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.shape == (n,) and y.dtype == np.int64
    counts = np.bincount(y)
    assert len(counts) == len(data.classes) and counts.max() - counts.min() <= 1 + (make is ds.make_noisy_xor)
    assert len(data.features) == 2 and len(set(data.classes)) == len(data.classes)


@pytest.mark.parametrize("make", PLANE, ids=lambda f: f.__name__)
def test_rows_come_in_random_order(make):
    y = make(200, rng=0).y
    assert 60 < (y[1:] != y[:-1]).sum() < 180     # sorted labels change at most 3 times, alternating ones 199 times


@pytest.mark.parametrize("make", RANDOM, ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [0, -3, 2.0, True, None])
def test_sizes_are_whole_and_positive(make, n):
    with pytest.raises(ValueError, match=f"{make.__name__}: n_samples"):
        make(n_samples=n)


@pytest.mark.parametrize("make", RANDOM, ids=lambda f: f.__name__)
@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf, "much"])
def test_noise_is_finite_and_not_negative(make, noise):
    name = "std" if make is ds.make_blobs else "noise"
    with pytest.raises(ValueError, match=f"{make.__name__}: {name}"):
        make(**{name: noise})


# ---- each set by its own law


def test_xor_by_hand():
    X, y = ds.make_xor()
    assert X.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and y.tolist() == [0, 1, 1, 0]
    assert X.dtype == np.float32 and y.dtype == np.int64


def test_noisy_xor_without_noise_is_xor():
    X, y = ds.make_noisy_xor(40, noise=0.0)
    assert set(map(tuple, X.tolist())) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert ((X[:, 0] != X[:, 1]) == y).all()


def test_moons_lie_on_half_circles():
    X, y = ds.make_moons(201, noise=0.0)
    upper, lower = X[y == 0], X[y == 1]
    assert len(upper) == 101 and len(lower) == 100
    np.testing.assert_allclose((upper**2).sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(((lower - [1, 0.5]) ** 2).sum(axis=1), 1, atol=1e-6)
    assert upper[:, 1].min() > -1e-6 and lower[:, 1].max() < 0.5 + 1e-6


def test_circles_have_their_radii():
    X, y = ds.make_circles(101, factor=0.3, noise=0.0)
    np.testing.assert_allclose(np.hypot(*X.T), np.where(y == 0, 1, 0.3), atol=1e-6)


@given(st.integers(2, 6), st.floats(0.2, 3))
@settings(max_examples=25, deadline=None)
def test_spirals_follow_their_equation(arms, turns):
    X, y = ds.make_spirals(60, n_arms=arms, turns=turns, noise=0.0)
    radius, angle = np.hypot(*X.T.astype(float)), np.arctan2(X[:, 1], X[:, 0])
    expected = 2 * np.pi * (turns * radius + y / arms)
    np.testing.assert_allclose(np.exp(1j * angle), np.exp(1j * expected), atol=2e-5)
    assert radius.min() >= 0.1 - 1e-6 and radius.max() <= 1 + 1e-6


def test_noise_has_the_size_that_was_asked_for():
    n = 20000
    clean, noisy = ds.make_circles(n, noise=0.0, rng=1), ds.make_circles(n, noise=0.1, rng=1)
    assert (clean.y == noisy.y).all()
    error = (noisy.X - clean.X).ravel()
    # std of a sample standard deviation: sigma / sqrt(2 N); mean: sigma / sqrt(N). Five of them.
    assert abs(error.std() - 0.1) < 5 * 0.1 / math.sqrt(2 * error.size)
    assert abs(error.mean()) < 5 * 0.1 / math.sqrt(error.size)


def test_blobs_have_their_centers():
    centers = np.array([[0.0, 0, 5], [3, 3, 3]])
    X, y = ds.make_blobs(4000, centers, std=0.5)
    assert X.shape == (4000, 3)
    for k in range(2):
        assert np.abs(X[y == k].mean(axis=0) - centers[k]).max() < 5 * 0.5 / math.sqrt(2000)
    assert ds.make_blobs(10, 2, n_features=5).X.shape == (10, 5)
    with pytest.raises(ValueError, match="centers"):
        ds.make_blobs(10, [[0.0, math.nan]])


def test_multilabel_is_membership_in_three_disks():
    X, y = data = ds.make_multilabel(4000)
    assert y.shape == (4000, 3) and y.dtype == np.int64 and data.classes == ("A", "B", "C")
    for k, angle in enumerate([90, 210, 330]):
        center = 0.5 * np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        distance = np.linalg.norm(X - center, axis=1)
        clear = abs(distance - 0.9) > 1e-5
        assert ((distance < 0.9) == y[:, k])[clear].all()
    assert len(np.unique(y @ [1, 2, 4])) == 8                       # every subset of the labels occurs


def test_memory_holds_its_label_at_the_first_step_alone():
    X, y = ds.make_memory(400, length=30, noise=0.3)
    assert X.shape == (400, 30, 1) and X.dtype == np.float32
    assert (X[:, 0, 0] == 2 * y - 1).all()
    correlation = [abs(np.corrcoef(X[:, t, 0], y)[0, 1]) for t in range(1, 30)]
    assert max(correlation) < 5 / math.sqrt(400)
    assert ds.make_memory(3, length=1).X.shape == (3, 1, 1)


CURVES = ["linear", "sine", "cubic", "abs", "step", "bumps"]


@pytest.mark.parametrize("kind", [*CURVES, "heteroscedastic", "inverse", "counts"])
def test_regression_sets_have_a_column_of_targets(kind):
    X, y = data = ds.make_regression_1d(kind, 200)
    assert X.shape == y.shape == (200, 1) and X.dtype == y.dtype == np.float32 and data.classes == ()
    assert (np.diff(X[:, 0]) >= 0).all()


def test_regression_laws():
    X, y = ds.make_regression_1d("sine", 50, noise=0.0)
    np.testing.assert_allclose(y, np.sin(np.pi * X), atol=1e-6)
    X, y = ds.make_regression_1d("inverse", 50, noise=0.0)
    np.testing.assert_allclose(X, y + 0.3 * np.sin(2 * np.pi * y), atol=1e-6)
    X, y = ds.make_regression_1d("counts", 5000)
    assert (y == np.rint(y)).all() and y.min() >= 0
    mean = np.exp(1 + np.sin(np.pi * X.astype(float)))
    assert abs(((y - mean) / np.sqrt(mean)).mean()) < 5 / math.sqrt(5000)
    X, y = ds.make_regression_1d("heteroscedastic", 4000, noise=0.1)
    z = (y - np.sin(np.pi * X)) / (0.1 * (1 + X.astype(float)))
    assert abs(z.std() - 1) < 5 / math.sqrt(2 * 4000)
    with pytest.raises(ValueError, match="kind is one of linear, sine"):
        ds.make_regression_1d("sin")


@given(hnp.arrays(np.float64, 20, elements=st.floats(0, 1)), st.integers(0, 8))
@settings(deadline=None)
def test_sawtooth_is_symmetric_and_stays_inside(x, depth):
    y = ds.sawtooth(x, depth)
    assert (0 <= y).all() and (y <= 1).all()
    if depth:
        exact = np.rint(x * 2**20) / 2**20                           # so that 1 - x loses nothing
        np.testing.assert_array_equal(ds.sawtooth(1 - exact, depth), ds.sawtooth(exact, depth))


@pytest.mark.parametrize("depth", range(9))
def test_sawtooth_pieces_double(depth):
    x = np.arange(2 ** (depth + 3) + 1) / 2 ** (depth + 3)           # eight steps per piece, exact in binary
    slopes = np.diff(ds.sawtooth(x, depth)) * 2 ** (depth + 3)
    assert set(np.abs(slopes)) == {2.0**depth}
    assert 1 + np.count_nonzero(np.diff(slopes)) == 2**depth


def test_sawtooth_edges():
    assert ds.sawtooth([0.0, 0.25, 0.5, 1.0], 1).tolist() == [0, 0.5, 1, 0]
    assert ds.sawtooth(np.float32(0.3), 2).dtype == np.float32
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ds.sawtooth([1.1], 2)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ds.sawtooth([math.nan], 2)
    X, y = ds.make_sawtooth(3, 65)
    assert X.shape == y.shape == (65, 1) and y.dtype == np.float32
    np.testing.assert_array_equal(y[:, 0], ds.sawtooth(X[:, 0], 3))


# ---- Dataset


def test_dataset_unpacks_takes_and_says_what_it_is():
    data = ds.make_moons(10)
    X, y = data
    assert X is data.X and y is data.y
    assert "X (10, 2) float32" in repr(data) and "upper, lower" in repr(data)
    part = data.take(y == 1)
    assert (part.y == 1).all() and part.classes == data.classes
    part.X[:] = 0
    assert data.X.any()                                              # a copy
    with pytest.raises(ValueError, match="3 rows, but y has 2"):
        ds.Dataset(np.zeros((3, 1)), np.zeros(2))


# ---- splits


@given(st.integers(2, 200), st.floats(0.05, 0.95), st.integers(0, 2**32))
@settings(deadline=None)
def test_every_row_lands_in_exactly_one_part(n, share, seed):
    if math.ceil(share * n) == n:
        return
    rows = np.arange(n)
    train, test, train2, test2 = ds.train_test_split(rows, rows * 2, test_size=share, rng=seed)
    assert sorted([*train, *test]) == rows.tolist() and len(test) == math.ceil(share * n)
    assert (train2 == train * 2).all() and (test2 == test * 2).all()


@given(st.lists(st.integers(2, 40), min_size=2, max_size=5), st.integers(1, 60), st.integers(0, 1000))
@settings(deadline=None)
def test_stratified_parts_keep_the_shares(counts, n_test, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    n_test = min(n_test, len(y) - 1)
    train, test = ds.train_test_split(np.arange(len(y)), test_size=n_test, rng=seed, stratify=y)
    assert len(test) == n_test and sorted([*train, *test]) == list(range(len(y)))
    held = np.bincount(y[test], minlength=len(counts))
    assert (np.abs(held - np.array(counts) * n_test / len(y)) < 1).all()


def test_splits_differ_by_seed_and_repeat_by_seed():
    data = ds.make_moons(100)
    a, b, c = (data.split(rng=s)[0].X for s in (0, 0, 1))
    assert a.tobytes() == b.tobytes() != c.tobytes()
    train, test = data.split(0.3, stratify=True)
    assert np.bincount(train.y).tolist() == [35, 35] and np.bincount(test.y).tolist() == [15, 15]


@pytest.mark.parametrize("size", [0, 10, -1, 0.0, 1.0, 1.5, math.nan, None])
def test_neither_part_may_be_empty(size):
    with pytest.raises(ValueError, match="train_test_split"):
        ds.train_test_split(np.arange(10), test_size=size)


def test_split_errors_teach():
    with pytest.raises(ValueError, match="3, 4 rows"):
        ds.train_test_split(np.arange(3), np.arange(4))
    with pytest.raises(ValueError, match="at least one array"):
        ds.train_test_split()
    with pytest.raises(ValueError, match="single row"):
        ds.train_test_split(np.arange(4), stratify=np.array([0, 0, 0, 1]))
    with pytest.raises(ValueError, match="one class per row"):
        ds.train_test_split(np.arange(4), stratify=np.array([0, 1]))


# ---- standardization


@given(hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-1e3, 1e3)))
@settings(deadline=None)
def test_scaler_equals_sklearn(X):
    from sklearn.preprocessing import StandardScaler

    X = np.round(X, 2)                         # sklearn calls a column constant that differs by rounding only
    ours = ds.StandardScaler().fit_transform(X)
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(X), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ds.StandardScaler().fit(X).inverse_transform(ours), X, rtol=1e-9, atol=1e-9)


def test_scaler_measures_the_training_part_alone():
    train, test = np.array([[0.0], [2.0]]), np.array([[1e6]])
    a, b = ds.standardize(train, test)
    assert a.ravel().tolist() == [-1, 1] and b.item() == 1e6 - 1     # mean 1, std 1: the test row had no say
    assert ds.standardize(np.float32([[0], [2]])).dtype == np.float32
    assert ds.standardize(np.array([[0], [2]])).dtype == np.float32


def test_constant_columns_become_zeros():
    column = np.full((7, 1), 0.1)
    assert (np.abs(ds.standardize(column)) < 1e-15).all()


def test_scaler_errors_teach():
    scaler = ds.StandardScaler()
    with pytest.raises(ValueError, match="call fit"):
        scaler.transform(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="fitted on 2 columns, got 3"):
        scaler.fit(np.zeros((2, 2))).transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="2 of 4 are nan or inf"):
        scaler.fit([[math.nan, 1.0], [math.inf, 2.0]])
    with pytest.raises(ValueError, match="at least one row"):
        scaler.fit(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="table"):
        scaler.fit(np.zeros(3))
    with pytest.raises(TypeError, match="real numbers"):
        scaler.fit(np.array([["a", "b"]]))


# ---- random labels


def test_random_labels_touch_the_share_that_was_asked_for():
    y = np.arange(3000) % 10
    new = ds.randomize_labels(y, 0.5, rng=0)
    assert new.dtype == np.int64 and (y == np.arange(3000) % 10).all()          # the old ones stay as they were
    changed = (new != y).sum()                       # 1500 rows, each other with probability 9/10
    assert abs(changed - 1350) < 5 * math.sqrt(1500 * 0.9 * 0.1)
    assert (ds.randomize_labels(y, 0.0) == y).all()
    counts = np.bincount(ds.randomize_labels(np.zeros(5000, int), n_classes=5), minlength=5)
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(5000 * 0.2 * 0.8)
    assert ds.randomize_labels(np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize("y", [np.zeros(3), np.zeros((2, 2), int), np.array([-1, 2])])
def test_random_labels_need_class_indices(y):
    with pytest.raises(ValueError, match="class indices"):
        ds.randomize_labels(y)


# ---- scikit-learn's sets


@pytest.mark.parametrize("name, shape, classes", [("digits", (1797, 64), 10), ("iris", (150, 4), 3),
                                                  ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2)])
def test_bundled_classification_sets(name, shape, classes):
    X, y = data = getattr(ds, f"load_{name}")()
    assert X.shape == shape and X.dtype == np.float32 and X.flags.c_contiguous
    assert y.shape == shape[:1] and y.dtype == np.int64 and set(y) == set(range(classes))
    assert len(data.classes) == classes and len(data.features) == shape[1]
    assert all(type(c) is str for c in data.classes + data.features)


def test_bundled_sets_say_what_they_are():
    digits = ds.load_digits()
    assert digits.X.min() == 0 and digits.X.max() == 16 and digits.classes == tuple("0123456789")
    assert ds.load_breast_cancer().classes == ("malignant", "benign")
    assert ds.load_iris().classes == ("setosa", "versicolor", "virginica")
    X, y = data = ds.load_diabetes()
    assert X.shape == (442, 10) and y.shape == (442, 1) and y.dtype == np.float32 and data.classes == ()
    assert (y.min(), y.max()) == (25, 346)
    np.testing.assert_allclose((X.astype(float) ** 2).sum(axis=0), 1, rtol=1e-4)


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes"])
def test_without_sklearn_the_error_says_what_to_install(monkeypatch, name):
    for module in [m for m in sys.modules if m.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, module)
    real = builtins.__import__

    class Blocked:
        @staticmethod
        def find_spec(fullname, path=None, target=None):
            if fullname.partition(".")[0] == "sklearn":
                raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr(sys, "meta_path", [Blocked, *sys.meta_path])
    monkeypatch.setattr(builtins, "__import__", real)
    with pytest.raises(ImportError, match=rf"load_{name}: .*pip install 'deepnotes\[sklearn\]'"):
        getattr(ds, f"load_{name}")()


def test_import_brings_neither_sklearn_nor_matplotlib_nor_pandas():
    code = "import sys, deepnotes.datasets; print([m for m in ('sklearn', 'matplotlib', 'pandas') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_nothing_here_can_reach_a_network():
    source = inspect.getsource(ds)
    for word in ("urllib", "http", "socket", "requests", "fetch_"):
        assert word not in source


# ---- IDX

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(code, shape, payload):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}i", *shape) + payload


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_idx_round_trip(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from(sorted(CODES)))
    array = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)))
    path = tmp_path_factory.mktemp("idx") / data.draw(st.sampled_from(["a.idx", "a.gz"]))
    ds.write_idx(path, array)
    back = ds.read_idx(path)
    assert back.dtype == array.dtype and back.dtype.isnative and back.shape == array.shape and back.flags.writeable
    assert back.tobytes() == array.tobytes()
    first = path.read_bytes()
    ds.write_idx(path, array)
    assert path.read_bytes() == first


@pytest.mark.parametrize("name", ["plain.idx", "zipped.idx"])
def test_idx_by_hand(tmp_path, name):
    content = idx_bytes(0x0B, (2, 2), struct.pack(">4h", 1, -2, 300, -32768))
    path = tmp_path / name                             # gzip is known by its content: neither name ends in .gz
    path.write_bytes(gzip.compress(content) if name == "zipped.idx" else content)
    assert ds.read_idx(path).tolist() == [[1, -2], [300, -32768]]


HEADER = idx_bytes(0x08, (2, 3), b"")
BROKEN = {
    "empty": (b"", "no IDX file"),
    "short magic": (b"\0\0\x08", "no IDX file"),
    "text": (b"label,pixel\n", "no IDX file"),
    "type 0x0A": (b"\0\0\x0a\x01\0\0\0\0", "no IDX file"),
    "no dimensions": (b"\0\0\x08\0", "0 dimensions"),
    "255 dimensions": (b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"x", "255 dimensions"),
    "cut header": (b"\0\0\x08\x03\0\0\0\1", "ends inside its header"),
    "negative size": (idx_bytes(0x08, (-1, 3), b""), "sizes must be 0 or more"),
    "cut data": (HEADER + b"12345", "only 5: the file is cut off"),
    "no data": (HEADER, "only 0"),
    "one byte too many": (HEADER + b"1234567", "there are more"),
    "product beyond 64 bits": (idx_bytes(0x0E, (2**31 - 1,) * 4, b""), "max_bytes"),
    "huge but empty": (idx_bytes(0x0E, (0, 2**31 - 1, 2**31 - 1), b""), "max_bytes"),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("case", BROKEN)
def test_broken_idx_files_are_clear_errors(tmp_path, case, zipped):
    content, message = BROKEN[case]
    path = tmp_path / "broken.idx"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(ValueError, match=message) as info:
        ds.read_idx(path)
    assert "broken.idx" in str(info.value)


@pytest.mark.parametrize("cut", [5, 12, 20, -9, -1])
def test_cut_gzip_streams_are_clear_errors(tmp_path, cut):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(HEADER + b"123456")[:cut])
    with pytest.raises(ValueError, match="gzip stream is damaged or cut off"):
        ds.read_idx(path)


def test_a_wrong_checksum_is_found(tmp_path):
    content = bytearray(gzip.compress(HEADER + b"123456"))
    content[-8] ^= 1
    path = tmp_path / "flipped.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        ds.read_idx(path)


@pytest.mark.parametrize("shape", [(10,), (2**30 - 1,)], ids=["header too small", "header honest, above the limit"])
def test_a_gzip_bomb_is_not_unpacked(tmp_path, shape):
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as f:
        f.write(idx_bytes(0x08, shape, b""))
        for _ in range(64):
            f.write(bytes(2**20))                                    # 64 MiB of zeros in some 64 kB
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match="more|max_bytes"):
        ds.read_idx(path, max_bytes=2**24)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_a_header_alone_reserves_no_memory(tmp_path):
    path = tmp_path / "lie.idx"
    path.write_bytes(idx_bytes(0x08, (2**29,), b"few"))
    tracemalloc.start()
    with pytest.raises(ValueError, match="only 3"):
        ds.read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("array", [np.zeros(2, np.int64), np.zeros(2, bool), np.float32(1), np.array(["a"])])
def test_write_idx_refuses_what_idx_cannot_hold(tmp_path, array):
    with pytest.raises(ValueError, match="IDX holds"):
        ds.write_idx(tmp_path / "x", array)
    assert not (tmp_path / "x").exists()


def test_load_idx_from_the_files_in_the_repository():
    X, y = data = ds.load_idx(DATA / "bars-images-idx3-ubyte.gz", DATA / "bars-labels-idx1-ubyte", ["rows", "columns"])
    assert X.shape == (8, 16) and X.dtype == np.float32 and y.dtype == np.int64 and data.classes == ("rows", "columns")
    images = X.reshape(8, 4, 4)
    for image, label in zip(images, y, strict=True):
        lines = image if label == 0 else image.T
        assert sorted(lines.sum(axis=1).tolist()) == [0, 0, 0, 4]    # one line of four pixels, 255 scaled to 1
    assert ds.load_idx(DATA / "bars-images-idx3-ubyte.gz", DATA / "bars-labels-idx1-ubyte").classes == ("0", "1")


def test_load_idx_refuses_files_that_do_not_fit(tmp_path):
    images, labels = tmp_path / "i", tmp_path / "l"
    ds.write_idx(images, np.zeros((3, 2, 2), np.uint8))
    for wrong in (np.zeros(4, np.uint8), np.zeros((3, 1), np.uint8), np.zeros(3, np.float32), -np.ones(3, np.int8)):
        ds.write_idx(labels, wrong)
        with pytest.raises(ValueError, match="3 images need as many integer labels"):
            ds.load_idx(images, labels)
    ds.write_idx(labels, np.array([0, 1, 2], np.uint8))
    with pytest.raises(ValueError, match="class 2, but 2 class names"):
        ds.load_idx(images, labels, classes=["a", "b"])
    ds.write_idx(images, np.full((3, 2), 0.5, np.float32))
    assert (ds.load_idx(images, labels).X == 0.5).all()              # only bytes are scaled
    ds.write_idx(images, np.zeros((0, 4), np.uint8))
    ds.write_idx(labels, np.zeros(0, np.uint8))
    assert ds.load_idx(images, labels).X.shape == (0, 4)


# ---- CSV


def csv_file(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_csv_with_classes(tmp_path, name):
    text = "\ufefflength, width ,kind\r\n1.5,2,\"cat, small\"\r\n\r\n-1e-3, 4 ,ant\r\n3,4,ant"
    X, y = data = ds.read_csv(csv_file(tmp_path, text, name))
    assert X.dtype == np.float32 and y.dtype == np.int64
    np.testing.assert_array_equal(X, np.float32([[1.5, 2], [-1e-3, 4], [3, 4]]))
    assert y.tolist() == [1, 0, 0] and data.classes == ("ant", "cat, small") and data.features == ("length", "width")


def test_csv_from_the_repository():
    X, y = data = ds.read_csv(DATA / "polygons.csv", target="kind")
    assert data.classes == ("hexagon", "square", "triangle") and np.bincount(y).tolist() == [3, 3, 3]
    assert data.features == ("sides", "side_cm", "area_cm2") and X.shape == (9, 3)
    sides, length, area = X.T.astype(float)
    np.testing.assert_allclose(area, sides * length**2 / (4 * np.tan(np.pi / sides)), atol=6e-5)


def test_csv_targets_by_name_and_position(tmp_path):
    path = csv_file(tmp_path, "a,b,c\n1,2,30\n4,5,9\n")
    assert ds.read_csv(path).classes == ("9", "30")                  # numbers are sorted as numbers
    assert ds.read_csv(path, target=0).X.tolist() == [[2, 30], [5, 9]]
    data = ds.read_csv(path, target="b", task="regression")
    assert data.y.tolist() == [[2], [5]] and data.y.dtype == np.float32 and data.features == ("a", "c")
    bare = csv_file(tmp_path, "1;2\n3;4\n", "bare.csv")
    assert ds.read_csv(bare, header=False, delimiter=";", task="regression").X.tolist() == [[1], [3]]


BAD_TABLES = {
    "missing": ("a,b\n1,x\n,y\n", "line 3: column 0 .'a'.*got ''"),
    "text": ("a,b\n1,x\nten,y\n", "line 3, column 0.*got 'ten'"),
    "nan": ("a,b\nnan,x\n", "the value is missing, got .nan."),
    "infinite": ("a,b\n-inf,x\n", "finite number"),
    "too large for float32": ("a,b\n1e39,x\n", "finite number, got '1e39'"),
    "underscore": ("a,b\n1_0,x\n", "got '1_0'"),
    "decimal comma": ("a;b\n1,5;x\n", "1 columns"),
    "short row": ("a,b,c\n1,2,x\n1,x\n", "line 3: 2 values where 3 were expected"),
    "long row": ("a,b\n1,x\n1,x,\n", "line 3: 3 values where 2"),
    "no target": ("a,b\n1,x\n2,\n", "line 3: the target is missing"),
    "header only": ("a,b\n", "no rows"),
    "empty": ("", "no rows"),
    "no header": ("1,2\n3,4\n", "header=False"),
    "open quote": ('a,b\n1,"x\n', "no CSV text"),
    "not utf-8": (b"a,b\n1,\xff\n", "UTF-8"),
    "line break in a quoted cell": ('a,b\n1,"x\ny"\n2,z\nq,w\n', "line 5, column 0"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_clear_errors(tmp_path, case):
    text, message = BAD_TABLES[case]
    with pytest.raises(ValueError, match=message) as info:
        ds.read_csv(csv_file(tmp_path, text))
    assert "table.csv" in str(info.value)


@pytest.mark.parametrize("target", ["c", 2, -3, True, 1.0, None])
def test_csv_targets_that_are_not_there(tmp_path, target):
    with pytest.raises(ValueError, match="target"):
        ds.read_csv(csv_file(tmp_path, "a,b\n1,x\n"), target=target)


def test_csv_limits(tmp_path):
    path = csv_file(tmp_path, "a,b\n" + "1,x\n" * 100_000, "bomb.csv.gz")
    with pytest.raises(ValueError, match="larger than max_bytes=1000"):
        ds.read_csv(path, max_bytes=1000)
    with pytest.raises(ValueError, match="task is"):
        ds.read_csv(path, task="both")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="damaged or cut off"):
        ds.read_csv(path)


# ---- documentation


def test_every_public_docstring_names_its_section():
    for name in ds.__all__:
        thing = getattr(ds, name)
        members = [thing] + [m for k, m in vars(thing).items() if inspect.isfunction(m) and k[0] != "_"] \
            if inspect.isclass(thing) else [thing]
        for member in members:
            last = inspect.getdoc(member).strip().splitlines()[-1]
            assert last.startswith("Chapter: Representation learning, section "), (name, last)


# ---- hostile inputs, one per defect once found


def test_a_label_file_cannot_ask_for_billions_of_class_names(tmp_path):
    ds.write_idx(tmp_path / "images", np.uint8([[1]]))
    ds.write_idx(tmp_path / "labels", np.int32([2**31 - 1]))
    with pytest.raises(ValueError, match="for more than 65536 classes pass their names"):
        ds.load_idx(tmp_path / "images", tmp_path / "labels")


def test_classes_of_a_csv_that_are_equal_numbers_are_one_class(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,kind\n1,2\n2,1.0\n3,1\n4,2.0\n", encoding="utf-8")
    data = ds.read_csv(path)
    assert data.classes == ("1.0", "2") and data.y.tolist() == [1, 0, 0, 1]
    path.write_text("a,kind\n1,inf\n2,10\n3,9\n", encoding="utf-8")
    data = ds.read_csv(path)                                         # inf is no number to sort by: all are text
    assert data.classes == ("10", "9", "inf") and data.y.tolist() == [2, 0, 1]


def test_the_largest_float32_survives_its_own_printing(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n3.4028235e+38,x\n", encoding="utf-8")
    assert ds.read_csv(tmp_path / "t.csv").X.item() == np.finfo(np.float32).max
    (tmp_path / "t.csv").write_text("a,b\n3.4028236e+38,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a finite number"):
        ds.read_csv(tmp_path / "t.csv")


def test_paths_may_be_bytes(tmp_path):
    path = str(tmp_path / "a.gz").encode()
    ds.write_idx(path, np.uint8([1, 2]))
    assert ds.read_idx(path).tolist() == [1, 2] and Path(path.decode()).read_bytes()[:2] == b"\x1f\x8b"


def test_dataset_keeps_arrays_and_refuses_what_has_no_rows():
    data = ds.Dataset([[1.0, 2.0], [3.0, 4.0]], [0, 1], classes=[5, 6])
    assert isinstance(data.X, np.ndarray) and data.classes == ("5", "6") and "classes 5, 6" in repr(data)
    assert data.take([]).X.shape == (0, 2)
    for wrong in (3, [[0]], [0.5]):
        with pytest.raises(ValueError, match="row numbers or booleans"):
            data.take(wrong)
    with pytest.raises(ValueError, match="a row per example"):
        ds.Dataset(np.float32(1), np.float32(1))
    with pytest.raises(ValueError, match="single number"):
        ds.train_test_split(np.float32(1))


@pytest.mark.parametrize("size", ["0.2", True])
def test_a_share_is_a_number_and_no_text(size):
    with pytest.raises(ValueError, match="test_size must be a finite number"):
        ds.train_test_split(np.arange(10), test_size=size)


@pytest.mark.filterwarnings("error")
def test_scaler_at_the_ends_of_float64():
    tiny = ds.standardize(np.array([[1e-200], [2e-200]]))            # the squares underflow: treated as constant
    assert np.isfinite(tiny).all()
    with pytest.raises(ValueError, match="too large to be squared"):
        ds.standardize(np.array([[1e308], [-1e308]]))


@pytest.mark.parametrize("points", ["a", 1j])
def test_sawtooth_takes_real_numbers(points):
    with pytest.raises(ValueError, match="real numbers"):
        ds.sawtooth(points, 1)
