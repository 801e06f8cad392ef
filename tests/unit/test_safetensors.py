"""The safetensors format in plain Python, held against the package of that name: the same bytes, the same refusals."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepnotes import _safetensors as ours

theirs = pytest.importorskip("safetensors.numpy")
DTYPES = [np.dtype(code) for name, code in ours.TYPES.items() if name in theirs._TYPES]      # complex64 since 0.7
ARRAYS = st.dictionaries(st.text(max_size=6).filter(lambda name: name != "__metadata__" and name.isprintable()),
                         st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))),
                         max_size=5)


@settings(max_examples=60, deadline=None)
@given(ARRAYS, st.none() | st.fixed_dictionaries({"tree": st.text(max_size=9).filter(str.isprintable)}))
def test_the_same_bytes_and_each_reads_the_others(arrays, metadata):
    data = ours.save(arrays, metadata)
    assert data == theirs.save(arrays, metadata)
    for read in (ours.load, theirs.load):
        found = read(data)
        assert found.keys() == arrays.keys()
        for name, a in arrays.items():
            assert found[name].dtype == a.dtype and found[name].shape == a.shape and found[name].tobytes() == a.tobytes()


def test_any_layout_and_byte_order_is_written_as_the_format_has_it():
    a = np.arange(6, dtype=">f4").reshape(2, 3)
    for x in (a, a.T, np.asfortranarray(a), a[::-1, ::2]):
        assert np.array_equal(theirs.load(ours.save({"x": x}))["x"], x)
    loaded = ours.load(ours.save({"x": a}))["x"]
    loaded[0, 0] = 7                                    # writeable, and its own memory


def test_types_that_the_format_lacks_are_refused():
    for x in (np.array(["text"]), np.array([None]), np.zeros(2, complex), np.zeros(1, "datetime64[s]")):
        with pytest.raises(ValueError, match="which the format does not know"):
            ours.save({"x": x})


def file(header, body=b"\0" * 8):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
WRONG = {
    "empty": b"", "seven bytes": b"\1" * 7, "a longer header": (99).to_bytes(8, "little") + b"{}",
    "an enormous header": b"\xff" * 8 + b"{}", "no JSON": file(b"{..}"), "a list": file([1]), "no UTF-8": file(b'{"\xff": 1}'),
    "unknown dtype": file({"a": {**ENTRY, "dtype": "F31"}}), "wrong length": file({"a": {**ENTRY, "shape": [3]}}),
    "negative shape": file({"a": {**ENTRY, "shape": [-1, -2]}}), "a fraction": file({"a": {**ENTRY, "shape": [2.0]}}),
    "beyond the end": file({"a": {**ENTRY, "data_offsets": [4, 12]}}), "a gap": file({"a": ENTRY}, b"\0" * 9),
    "an overlap": file({"a": ENTRY, "b": ENTRY}),
    "no offsets": file({"a": {"dtype": "F32", "shape": [2]}}), "metadata no text": file({"__metadata__": {"a": 1}, "a": ENTRY}),
    "backwards": file({"a": {**ENTRY, "data_offsets": [8, 0]}}), "an entry of null": file({"a": None}),
    "shape with true": file({"a": {**ENTRY, "shape": [True, 2]}}), "metadata a list": file({"__metadata__": [], "a": ENTRY}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_package_refuses_is_refused(name):
    with pytest.raises(Exception):  # noqa: B017 (the package has exceptions of its own)
        theirs.load(WRONG[name])
    with pytest.raises((ValueError, KeyError, TypeError, UnicodeDecodeError)):
        ours.load(WRONG[name])


def test_a_name_that_stands_twice_is_refused():           # the package takes the last one
    with pytest.raises(ValueError, match="stands twice"):
        ours.load(file(b'{"a": %s, "a": %s}' % ((json.dumps(ENTRY).encode(),) * 2)))


def test_checkpoints_use_the_package_where_it_is():
    assert ours.package() is theirs
