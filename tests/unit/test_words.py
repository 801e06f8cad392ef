"""Words of other libraries: each is refused with what the same is called here, and what the message says is there."""
import copy
import inspect
import pickle
import re

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import MLP, Linear, Sequential, Trainer, _words, optim, optimizers, outputs

X, Y = np.zeros((4, 2), "float32"), np.array([0, 1, 0, 1])


def model():
    return MLP(2, [3], 2, rng=0)


OPTIMIZERS = [getattr(optim, name) for name in optim.__all__ if isinstance(getattr(optim, name), type)
              and issubclass(getattr(optim, name), optimizers.Optimizer) and name != "Optimizer"]


def of(kind):
    "The words of an optimizer: of Adam's kin, of one that divides by something, of any."
    known = inspect.signature(kind).parameters
    return _words.ADAM if "betas" in known else _words.SCALED_STEP if "eps" in known else _words.STEP


TYPED = {
    "Trainer": (_words.TRAINER, lambda **words: Trainer(model(), **words)),
    "Trainer.fit": (_words.FIT, lambda **words: Trainer(model()).fit(X, Y, **words)),
    "Trainer.evaluate": (_words.ASK, lambda **words: Trainer(model()).evaluate(X, Y, **words)),
    "Trainer.predict": (_words.ASK, lambda **words: Trainer(model()).predict(X, **words)),
    "Trainer.predict_proba": (_words.ASK, lambda **words: Trainer(model()).predict_proba(X, **words)),
    "Trainer.forward": (_words.ASK, lambda **words: Trainer(model()).forward(X, **words)),
    "Loader": (_words.LOADER, lambda **words: dn.Loader(X, Y, **words)),
    "MLP": (_words.MLP, lambda **words: MLP(2, [3], 2, **words)),
    **{kind.__name__: (of(kind), lambda kind=kind, **words: kind(model().parameters(), **words)) for kind in OPTIMIZERS},
}


@pytest.mark.parametrize("op, word", [(op, word) for op, (words, _) in TYPED.items() for word in words
                                      if not (op == "Trainer.evaluate" and word == "sample_weight")])
def test_a_keyword_of_others_is_refused_with_ours(op, word):
    words, call = TYPED[op]
    with pytest.raises(TypeError, match=re.escape(f"{op}: there is no {word!r} here; use {words[word]}. See the page Coming from")):
        call(**{word: 1})


@pytest.mark.parametrize("op", TYPED)
def test_typing_errors_stay_pythons(op):
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        TYPED[op][1](nonsense=1)


@pytest.mark.parametrize("function, words", [
    (Trainer.__init__, _words.TRAINER), (Trainer.fit, _words.FIT), (Trainer.predict, _words.ASK), (MLP.__init__, _words.MLP),
    *((kind.__init__, of(kind)) for kind in OPTIMIZERS),
], ids=lambda value: getattr(value, "__qualname__", ""))
def test_no_word_hides_an_argument_of_ours(function, words):
    assert not set(words) & set(inspect.signature(function).parameters)
    for ours in words.values():                                     # `epochs`, `validation=(…)`: the first word is an argument here
        first = re.match(r"(\w+)(?:=|$|,| )", ours)
        if first and first[1] not in ("nothing", "callbacks") and function.__name__ == "__init__" and "dn." not in ours:
            assert first[1] in inspect.signature(function).parameters, ours


@pytest.mark.parametrize("name", [*_words.LOSSES, "MSE", "MSELoss", "CrossEntropyLoss"])
def test_losses_by_their_names_elsewhere(name):
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}. For {name!r} use loss=")):
        Trainer(model(), name)


@pytest.mark.parametrize("name", [*(name for name in _words.OPTIMIZERS if name != "lbfgs"), "Adam", "SGD"])
def test_optimizers_by_their_names_elsewhere(name):
    with pytest.raises(TypeError, match=rf"For '{name}' use optimizer=dn\.optim\.\w+\(model\.parameters\(\), lr=…\)\. See the chapter"):
        Trainer(model(), optimizer=name)


@pytest.mark.parametrize("name", _words.METRICS)
def test_metrics_by_their_names_elsewhere(name):
    with pytest.raises(ValueError, match=re.escape(f"For {name!r} use {_words.METRICS[name]}.")):
        Trainer(model(), "mse_loss", metrics=[name])


@pytest.mark.parametrize("name", _words.TENSOR)
def test_methods_of_others_tensors(name):
    t = dn.Tensor([1.0, 2.0], requires_grad=True)
    assert not hasattr(t, name) and not hasattr(dn.Tensor, name)
    with pytest.raises(AttributeError, match=re.escape(f"'Tensor' object has no attribute {name!r}; use {_words.TENSOR[name]}. See")):
        getattr(t, name)
    with pytest.raises(AttributeError, match="^'Tensor' object has no attribute 'nonsense'$"):
        t.nonsense                                                  # noqa: B018
    again = pickle.loads(pickle.dumps(copy.deepcopy(t)))
    assert again.requires_grad and np.array_equal(again.numpy(), [1, 2]) and np.asarray(t.detach()).shape == (2,)


@pytest.mark.parametrize("module, name", [("layers", "Dense"), ("layers", "LSTM"), ("layers", "CrossEntropyLoss"), ("layers", "Conv1d"),
                                          ("outputs", "CrossEntropyLoss"), ("optim", "lr_scheduler"), ("callbacks", "ModelCheckpoint")])
def test_names_of_others_in_a_module(module, name):
    module = getattr(dn, module)
    with pytest.raises(AttributeError, match=re.escape(f"module {module.__name__!r} has no attribute {name!r}; use {_words.NAMES[name]}.")):
        getattr(module, name)
    with pytest.raises(AttributeError, match=f"^module {module.__name__!r} has no attribute 'nonsense'$"):
        module.nonsense                                             # noqa: B018


def test_one_pair_of_arrays_is_not_taken_for_batches():
    with pytest.raises(TypeError, match=re.escape("got one pair of 4 rows each; give X and y as two arguments, Loader(X, y)")):
        dn.Loader((X, Y), batch_size=2)
    assert len(list(dn.Loader(((X, Y), (X, Y))))) == 2              # two batches are two batches


@pytest.mark.parametrize("name", _words.MODEL)
def test_methods_of_others(name):
    for net in (model(), Linear(2, 2)):
        assert not hasattr(net, name)
        with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}; use {_words.MODEL[name]}. See the page")):
            getattr(net, name)


def test_other_attributes_fail_as_python_says():
    class Mine(dn.Module):
        layers = 3                                                  # a word, and an attribute of this class

        @property
        def broken(self):
            return self.absent

        @property
        def fit(self):
            return self.missing

    net = Mine()
    assert net.layers == 3
    for name, said in (("nonsense", "'Mine' object has no attribute 'nonsense'"), ("broken", "no attribute 'absent'"),
                       ("fit", "no attribute 'missing'")):
        with pytest.raises(AttributeError, match=said):
            getattr(net, name)
    assert copy.deepcopy(net).layers == 3 and pickle.loads(pickle.dumps(Sequential(Linear(2, 2, rng=0)))).parameters()


def paths():
    told = [text for words in (_words.TRAINER, _words.FIT, _words.ASK, _words.MLP, _words.ADAM, _words.LOSSES, _words.OPTIMIZERS,
                               _words.METRICS, _words.MODEL, _words.TENSOR, _words.LOADER, _words.NAMES) for text in words.values()]
    return sorted({path for text in told for path in re.findall(r"\bdn\.([\w.]*\w)", text)})


@pytest.mark.parametrize("path", paths())
def test_what_the_messages_name_is_there(path):
    value = dn
    for part in path.split("."):
        value = getattr(value, part)


def test_the_losses_that_are_named_train():
    for text in _words.LOSSES.values():
        loss = re.match(r"loss=('(\w+)'|dn\.outputs\.(\w+))", text)
        Trainer(model(), loss[2] if loss[2] else getattr(outputs, loss[3]))
