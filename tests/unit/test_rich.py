"""What a notebook shows of the objects that one looks at: small, escaped, without a color of its own."""

import html.parser
import re

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import datasets, layers
from deepnotes.training.history import History


class Cells(html.parser.HTMLParser):
    """The words of an HTML table, and whether its tags are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words = [], []
        self.feed(text)
        self.close()
        assert not self.open, f"{self.open} stayed open"

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def words(thing):
    return " | ".join(Cells(thing._repr_html_()).words)


@pytest.fixture(scope="module")
def trainer():
    X, y = datasets.load_digits().take(range(64))
    model = dn.MLP(64, [8], 10, rng=0)
    trainer = dn.Trainer(model, loss="cross_entropy", optimizer=dn.optimizers.SGD(model.parameters(), lr=0.1), seed=3)
    trainer.fit(X, y, epochs=2, progress=False)
    return trainer


def test_a_network_shows_its_layers_and_how_many_numbers_it_holds(trainer):
    said = words(trainer.model)
    assert "MLP" in said and "Linear(64, 8)" in said and "520" in said and "90" in said
    assert "610 parameters, all trainable" in said
    frozen = layers.Linear(2, 3, rng=0)
    frozen.bias.requires_grad = False
    assert "9 parameters, 6 of them trainable" in words(frozen)


def test_numbers_shared_by_two_layers_are_counted_once():
    shared = layers.Linear(4, 4, rng=0)
    assert "20 parameters, all trainable" in words(layers.Sequential(shared, layers.ReLU(), shared))


def test_a_network_of_a_hundred_layers_stays_small():
    said = words(layers.Sequential(*(layers.Linear(1, 1, rng=0) for _ in range(100))))
    assert "… | …" in said and said.count("Linear(1, 1)") < 30 and "200 parameters" in said


def test_a_class_that_says_itself_what_it_is_is_shown_as_it_says():
    class Own(layers.Linear):
        def __repr__(self):
            return "my own words"

    assert Own(1, 1, rng=0)._repr_html_() is None


def test_a_summary_is_the_same_table_as_its_text(trainer):
    summary = trainer.model.summary(64)
    said = words(summary)
    for row in repr(summary).splitlines():
        if set(row) != {"-"}:
            assert all(cell in said for cell in re.split(r"  +", row.strip()))


def test_a_trainer_says_where_it_stands(trainer):
    said = words(trainer)
    last = trainer.history["loss"][-1]
    for part in ("MLP, 610 parameters", "cross_entropy", "SGD(", "epochs so far | 2", f"last loss | {last:.4g}"):
        assert part in said, part


def test_a_data_set_shows_shapes_names_and_counts():
    data = datasets.Dataset(np.zeros((3, 2), "f4"), np.array([1, 1, 0]), classes=("<i>cat</i>", "dog"), features=("a", "b"),
                            name="<script>")
    text = data._repr_html_()
    said = words(data)
    assert "<script>" not in text and "<i>" not in text and "<script>" in said
    assert "<i>cat</i> (1), dog (2)" in said and "(3, 2) float32" in said and "3 examples" in said and "a, b" in said
    regression = datasets.Dataset(np.zeros((5, 1), "f4"), np.zeros((5, 1), "f4"))
    assert "classes" not in words(regression) and "5 examples" in words(regression)


def test_classes_without_an_example_are_named_without_a_count():
    data = datasets.Dataset(np.zeros((2, 1), "f4"), np.array([0, 0]), classes=("cat", "dog"))
    assert "cat (2), dog" in words(data) and "dog (" not in words(data)


def test_a_loader_says_what_it_reads_and_where_it_stands(tmp_path):
    loader = dn.Loader(np.zeros((10, 3), "f4"), np.zeros(10, "i8"), batch_size=4, seed=7)
    said = words(loader)
    assert "(10, 3) float32" in said and "3 batches an epoch" in said and "by seed | 7" in said and "epoch 0, step 0" in said
    np.save(tmp_path / "X.npy", np.zeros((10, 3), "f4"))
    assert "read from a file" in words(dn.Loader(tmp_path / "X.npy", np.zeros(10, "i8")))
    assert "reads list" in words(dn.Loader([(np.zeros((2, 3), "f4"), np.zeros(2, "i8"))]))


@pytest.mark.parametrize("shape", [(), (0,), (5,), (4, 6)])
def test_a_few_numbers_stay_a_line_of_text(shape):
    assert dn.Tensor(np.zeros(shape, "f4"))._repr_html_() is None


def test_a_large_tensor_shows_its_corners():
    values = np.arange(20_000, dtype="f8").reshape(100, 200)
    said = words(dn.Tensor(values, requires_grad=True))
    assert "Tensor (100, 200) float64, requires_grad" in said
    assert "1.98e+04" in said and "2e+04" in said and said.count("…") < 30
    assert "shown: [0, 0, :, :]" in words(dn.Tensor(np.zeros((2, 3, 4, 5), "f4")))
    product = dn.Tensor(values, requires_grad=True) * 2
    assert f"grad_fn: {product._node.name}" in words(product)
    assert words(dn.Tensor(np.arange(100))).endswith("99")
    assert "nan" in words(dn.Tensor(np.full(30, np.nan)))


def test_nothing_sets_a_color_or_is_long(trainer):
    things = [trainer, trainer.model, trainer.model.summary(64), datasets.load_digits(), dn.Loader(np.zeros((10, 3)), np.zeros(10)),
              dn.Tensor(np.zeros((300, 300), "f4")), trainer.history, History()]
    for thing in things:
        text = thing._repr_html_()
        assert "color" not in text and "background" not in text and len(text) < 9000, type(thing)
        Cells(text)
