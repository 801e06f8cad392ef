"""What a message shows of the value that came in: the number itself, not numpy's name for it, and a long value cut short."""

import io

import numpy as np
import pytest

from deepnotes import autograd as ag
from deepnotes import initialization, layers, optimizers, outputs
from deepnotes.autograd import Tensor
from deepnotes.training import checkpoints

BAD = [np.float64(-2.5), np.int64(-7), np.str_("mush"), "x" * 5000, np.full(10_000, -1.0)]


def calls(bad):
    p = [layers.Parameter(np.zeros(2, "f4"))]
    yield layers.Linear, (bad, 2)
    yield layers.Linear, (3, bad)
    yield layers.Dropout, (bad,)
    yield layers.MLP, (3, bad, 2)
    yield layers.MLP, (3, 4, 2, bad)
    yield initialization.gain, (bad,)
    yield optimizers.SGD, (p, bad)
    yield optimizers.clip_grad_norm_, (p, 1.0, bad)
    yield optimizers.clip_grad_value_, (p, bad)


@pytest.mark.parametrize("bad", BAD, ids=["float64", "int64", "str_", "long text", "long array"])
def test_messages_show_values_as_they_are(bad):
    for function, arguments in calls(bad):
        with pytest.raises((TypeError, ValueError)) as caught:
            function(*arguments)
        text = str(caught.value)
        assert "np." not in text and len(text) < 900, f"{function.__name__}{arguments}: {text[:300]}"


def wrong_words(word, place):
    x, labels = Tensor(np.ones((2, 3))), np.array([0, 1])
    yield lambda: outputs.cross_entropy(x, labels, reduction=word)
    yield lambda: outputs.mse_loss(x, x, reduction=word)
    yield lambda: ag.sum(x, word)
    yield lambda: ag.sum(x, (place, place))
    yield lambda: ag.split(x, [place, place])
    yield lambda: ag.split(x, -place)
    yield lambda: ag.pad(x, -place)
    yield lambda: ag.pad(x, [(place, place)])
    yield lambda: ag.where(labels > 0, 1.0, np.complex128(1j))
    yield lambda: checkpoints.save({"a": {(place, word): 1}}, io.BytesIO())
    yield lambda: checkpoints.save_weights({(place,): np.ones(2)}, io.BytesIO())


def test_words_and_places_in_messages_of_losses_operations_and_files():
    seen = 0
    for call in wrong_words(np.str_("mush"), np.int64(7)):
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            call()
        assert "np." not in str(caught.value), str(caught.value)
        seen += "7" in str(caught.value) or "mush" in str(caught.value)
    assert seen >= 8


def test_sizes_may_be_numbers_of_numpy():
    x = Tensor(np.ones((2, 3)))
    assert ag.pad(x, np.int64(1)).shape == (4, 5) and [part.shape for part in ag.split(x, np.int64(2), 1)] == [(2, 2), (2, 1)]
