"""What a message shows of the value that came in: the number itself, not numpy's name for it, and a long value cut short."""

import numpy as np
import pytest

from deepnotes import initialization, layers, optimizers

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
