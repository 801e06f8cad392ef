"""Whatever a user holds can be copied and sent, in every state of its life; the copy goes on to the same bits, the original is left alone.

One table of things and one of ways; the first is compared with every public class, so that a new one cannot be forgotten.
"""
import copy
import importlib
import inspect
import io
import multiprocessing
import pickle
import pkgutil
import types
import warnings

import numpy as np
import pytest

import deepnotes
from deepnotes import (
    activations,
    autograd,
    callbacks,
    capture,
    comparing,
    convolution,
    datasets,
    estimators,
    layers,
    optim,
    optimizers,
    outputs,
    parallel,
    plotting,
    schedules,
)
from deepnotes._modules import ForeignWeights, HookHandle, LoadResult
from deepnotes.autograd import Tensor
from deepnotes.exchange import torch as exchange_torch
from deepnotes.layers import MLP, BatchNorm1d, Dropout, Linear, Module, Parameter, Sequential
from deepnotes.training import History, Trainer
from deepnotes.training.loader import Loader

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(24, 4)).astype("float32"), np.arange(24) % 3
RECORDS = np.array([("a", 1.0), ("b", 3.0), ("c", np.nan), ("b", 2.0)], [("word", "U1"), ("number", float)])
ROW = {"loss": 0.5, "val_loss": 0.25}


# ---- ways to copy

WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy}
for _protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    WAYS[f"pickle {_protocol}"] = lambda x, p=_protocol: pickle.loads(pickle.dumps(x, p))


def through_buffers(x):
    "Protocol 5 with arrays apart, which come back as memory that is only read: so do Dask and multiprocessing libraries."
    buffers = []
    data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])


def through_joblib(x):
    file = io.BytesIO()
    joblib.dump(x, file)
    file.seek(0)
    return joblib.load(file)


WAYS["buffers"] = through_buffers
try:
    import joblib
except ImportError:
    joblib = None
else:
    WAYS["joblib"] = through_joblib
try:
    import cloudpickle
except ImportError:
    cloudpickle = None
else:
    WAYS["cloudpickle"] = lambda x: pickle.loads(cloudpickle.dumps(x))


# ---- what things hold

MADE_ANEW = ("_step", "_predictions", "_programs", "_calls", "_clock", "captured", "_plan", "_plans", "_last", "_lock",
             "_made_of", "_segments", "_version", "_walked")


def held(x, seen=None, path=""):
    "All numbers and texts that a thing holds, as (path, value); functions and code are none."
    seen = {} if seen is None else seen
    if isinstance(x, np.ndarray):
        return [(path, x)]
    if isinstance(x, bool | int | float | str | np.generic | type(None)):
        return [(path, x)]
    if id(x) in seen or isinstance(x, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType):
        return []
    seen[id(x)] = x
    if isinstance(x, dict):
        pairs = list(enumerate(x)) + [(f"{i}:", v) for i, v in enumerate(x.values())]
    elif isinstance(x, list | tuple):
        pairs = list(enumerate(x))
    else:
        slots = [s for c in type(x).__mro__ for s in getattr(c, "__slots__", ()) if s != "__weakref__"]
        pairs = [(s, getattr(x, s)) for s in slots if hasattr(x, s)] + list(getattr(x, "__dict__", {}).items())
        pairs = [(k, v) for k, v in pairs if k not in MADE_ANEW]
    return [found for key, value in pairs for found in held(value, seen, f"{path}.{key}")]


def frozen(values):
    "The same as bytes, to be compared later."
    return [(path, v.dtype.str, v.shape, v.tobytes()) if isinstance(v, np.ndarray) else (path, repr(v)) for path, v in values]


def apart(a, b):
    "No array of one lies in the memory of another."
    arrays = [[v for _, v in held(x) if isinstance(v, np.ndarray) and v.size and v.flags.writeable] for x in (a, b)]
    return not any(np.shares_memory(x, y) for x in arrays[0] for y in arrays[1])


# ---- how each kind of thing goes on

def go_tensor(t):
    if not t.requires_grad:
        t.data[...] = t.data * 2
        return [t.data]
    (t * t).sum().backward()                                               # adds to a gradient that is there
    t.data -= 0.1 * t.grad.data
    return [t.data, t.grad.data]


def go_module(m):
    pictures = isinstance(m, convolution.Conv2d | convolution.MaxPool2d | convolution.AvgPool2d)
    shape = ((6, 1, 4, 4) if pictures else (2, 4, -1) if isinstance(m, layers.InstanceNorm1d) else (2, 4, 2, -1)
             if isinstance(m, layers.InstanceNorm2d) else X.shape)
    x = np.arange(12) % 4 if isinstance(m, layers.Embedding) else Tensor(X.reshape(shape))
    first, second = m(x), m(x)
    if any(p.requires_grad for p in m.parameters()):
        second.sum().backward()
    return [first.data, second.data, *m.state_dict().values(), *(p.grad.data for p in m.parameters() if p.grad is not None)]


def go_optimizer(o):
    if o.needs_closure:
        def closure():
            loss = sum(((p - 0.5) ** 4).sum() for p in o.state)
            loss.backward()
            return loss
        o.step(closure)
        return [p.data.copy() for p in o.state] + [a for arrays in o.state.values() for a in arrays.values()]
    for k, p in enumerate(o.state):
        p.grad = Tensor(np.cos(np.arange(p.size) + k).astype(p.dtype).reshape(p.shape))
    o.step()
    return [p.data.copy() for p in o.state] + [a for arrays in o.state.values() for a in arrays.values()]


def go_group(group):
    before = [*group.numbers]
    group["lr"] = 0.5
    return [np.array(before), group.numbers, np.array([p.data.sum() for p in group["params"]])]


def go_schedule(s):
    lrs = []
    for _ in range(4):
        s.step(*([1.0] if isinstance(s, schedules.ReduceLROnPlateau) else []))
        lrs += s.get_last_lr()
        go_optimizer(s.optimizer)
    return [np.array(lrs), *(p.data for p in s.optimizer.state)]


def go_trainer(t):
    t.fit(X, LABELS, epochs=2, batch_size=8, progress=False)
    return [v for _, v in held(t.state_dict()) if isinstance(v, np.ndarray | float)]


def go_stack(s):
    s.fit(X, LABELS, epochs=2, batch_size=8, progress=False)
    return [s.curves(), s.forward(X)]


def go_history(h):
    h.append(loss=1.0, accuracy=0.5)
    return [np.array([v or 0.0 for name in h for v in h[name]])]


def go_callback(c):
    trainer = Trainer(MLP(4, [3], 3, rng=5), capture=False)
    trainer.save = lambda path: None
    trainer.history.append(loss=1.0)
    c.on_epoch_end(trainer, ROW)
    return [v for _, v in held(c.state_dict()) if isinstance(v, np.ndarray | float | int)]


def go_loader(loader):
    seen = [array for pair in [*loader, *loader] for array in pair]
    return [*seen, np.array([loader.epoch, loader.step])]


def go_captured(fast):
    return [fast(X[:8], LABELS[:8]).data for _ in range(4)]


def go_scaler(s):
    return [s.transform(X) if hasattr(s, "mean_") else X, s.fit(X * 2 + 1).mean_]


def go_dataset(d):
    seen = [d.X.copy(), d.y.copy()]
    for array in (a for a in d if a.flags.writeable):                       # through buffers numpy's arrays come to be read only
        array[...] = 0
    return seen


def go_handle(handle):
    handle.remove()
    return [np.array([len(handle._hooks)])]


def go_estimator(e):
    before = [e.predict(X)] if hasattr(e, "n_features_in_") else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                     # three epochs do not converge
        e.fit(X, LABELS)
    return [*before, e.predict(X), np.array(e.loss_curve_)]


def go_encoder(e):
    before = [e.transform(RECORDS)] if hasattr(e, "kinds_") else []
    return [*before, e.fit(RECORDS[::2]).transform(RECORDS)]


def go_prediction(p):
    return [p(X), p(X[:3])]


def go_plain(x):
    return [v for _, v in held(x) if isinstance(v, np.ndarray | float)]


GO = {Tensor: go_tensor, Module: go_module, optimizers.Optimizer: go_optimizer, optimizers.ParamGroup: go_group,
      schedules.LRScheduler: go_schedule, Trainer: go_trainer, parallel.Stack: go_stack, History: go_history,
      callbacks.Callback: go_callback,
      Loader: go_loader, capture.Captured: go_captured, capture.Prediction: go_prediction,
      datasets.StandardScaler: go_scaler, datasets.Dataset: go_dataset,
      HookHandle: go_handle, estimators.MLPClassifier: go_estimator, estimators.MLPRegressor: go_estimator,
      estimators.TableEncoder: go_encoder, object: go_plain}


def go_on(x):
    kind = next(c for c in type(x).__mro__ if c in GO)
    return [np.array(v) for v in GO[kind](x)]


# ---- the things, by class and state

def stepped(optimizer, steps=3):
    for _ in range(steps):
        go_optimizer(optimizer)
    return optimizer


def used(thing, times=1):
    for _ in range(times):
        go_on(thing)
    return thing


def with_grad(t):
    t.grad = Tensor(np.full(t.shape, 0.5, t.dtype))
    return t


def halved(gradient):
    return gradient * 0.5


def doubled(module, args, out):
    return out * 2


def hooked(x, hook):
    (x.register_forward_hook if isinstance(x, Module) else x.register_hook)(hook)
    return x


def tensor_states(cls, **settings):
    def data():
        return np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3)

    return {"fresh": lambda: cls(data()), "learning": lambda: cls(data(), requires_grad=True),
            "with gradient": lambda: with_grad(cls(data(), requires_grad=True)),
            "hooked": lambda: hooked(cls(data(), requires_grad=True), halved),
            "wide": lambda: cls(data().astype("float64"), requires_grad=True),
            "Fortran": lambda: cls(np.asfortranarray(data()), requires_grad=True)}


SPECIAL = {
    "Linear": lambda: Linear(4, 3, rng=0), "Maxout": lambda: layers.Maxout(4, 3, 2, rng=0), "PReLU": lambda: layers.PReLU(4),
    "Dropout": lambda: Dropout(0.5, rng=0), "AlphaDropout": lambda: layers.AlphaDropout(0.5, rng=0), "BatchNorm1d": lambda: BatchNorm1d(4),
    "LayerNorm": lambda: layers.LayerNorm(4), "RMSNorm": lambda: layers.RMSNorm(4), "Embedding": lambda: layers.Embedding(4, 3, rng=0),
    "Residual": lambda: layers.Residual(Linear(4, 4, rng=0), scale=0.5), "MLP": lambda: MLP(4, [5], 3, norm="batch", dropout=0.2, rng=0),
    "Threshold": lambda: layers.Threshold(0.1, 0.2), "GroupNorm": lambda: layers.GroupNorm(2, 4),
    "InstanceNorm1d": lambda: layers.InstanceNorm1d(4, affine=True), "InstanceNorm2d": lambda: layers.InstanceNorm2d(4, affine=True),
    "Conv2d": lambda: convolution.Conv2d(1, 2, 3, rng=0), "MaxPool2d": lambda: convolution.MaxPool2d(2),
    "AvgPool2d": lambda: convolution.AvgPool2d(2),
    "Sequential": lambda: Sequential(Linear(4, 4, rng=0), BatchNorm1d(4), Dropout(0.3, rng=1)), "Module": lambda: Own(),
}


class Own(Module):
    "A module of a user's, with containers, a buffer and a parameter in two places."

    def __init__(self):
        self.parts = {"a": [Linear(4, 4, rng=0)], "b": (BatchNorm1d(4),)}
        self.scale = Parameter(np.full(4, 2.0, "float32"))
        self.same = self.scale
        self.register_buffer("seen", np.zeros(1))

    def forward(self, x):
        self.seen += 1
        return self.parts["b"][0](self.parts["a"][0](x)) * self.scale * self.same


def module_states(name):
    make = SPECIAL[name] if name in SPECIAL else getattr(layers, name)
    return {"fresh": make, "used": lambda: used(make(), 2), "evaluating": lambda: used(make()).eval(),
            "frozen": lambda: used(make()).requires_grad_(False), "hooked": lambda: hooked(make(), doubled)}


def parameters():
    return [Parameter(np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3)), Parameter(np.ones(3))]


def estimator(cls):
    return cls(hidden_layer_sizes=(5,), max_iter=3, random_state=0)


def half_frozen(o):
    next(iter(o.state)).requires_grad = False
    return o


def rate_by_hand(o):
    o.param_groups[0]["lr"] = 0.125
    if o.param_groups[0].get("momentum"):
        o.param_groups[0]["momentum"] = 0.0                                # the rule stays the one with a velocity
    return o


def quasi_newton():
    return optim.LBFGS(parameters(), lr=0.1, max_iter=3, history_size=2)


def optimizer_states(cls, **settings):
    def make():
        first, second = parameters()
        return cls([{"params": [first], "lr": 0.25}, {"params": [second], "name": "second"}], lr=0.1, **settings)

    return {"fresh": make, "used": lambda: stepped(make()), "by hand": lambda: rate_by_hand(stepped(make())),
            "frozen": lambda: half_frozen(stepped(make()))}


def schedule_states(make):
    def made():
        return make(stepped(optimizers.Adam(parameters(), lr=0.1)))

    return {"fresh": made, "mid-way": lambda: used(made())}


def tenfold(step):
    return 1 / (1 + step)


def mean_of_squares(out, y):
    return ((out - Tensor(np.eye(3, dtype="float32")[y])) ** 2).mean()


def spread(out, y):
    return float(out.max() - out.min())


def trainer(capture=True, **settings):
    model = MLP(4, [6], 3, norm="batch", dropout=0.2, rng=0)
    optimizer = optimizers.AdamW(model.parameters(), lr=0.02)
    scheduler = schedules.StepLR(optimizer, 5, 0.5)
    return Trainer(model, optimizer=optimizer, scheduler=scheduler, scheduler_interval="step", clip_grad_norm=1.0, capture=capture,
                   **settings)


def member(seed):
    return Trainer(MLP(4, [6], 3, dropout=0.2, rng=seed), seed=seed)


def frozen_trainer():
    t = trainer()
    t.model[0].requires_grad_(False)
    return used(t)


class Interrupt(callbacks.Callback):
    every = 2

    def on_train_batch_end(self, trainer, step):
        trainer.stop_training = True


def within_an_epoch():
    t = trainer()
    t.fit(X, LABELS, epochs=1, batch_size=8, callbacks=Interrupt(), progress=False)
    assert t._position["step"] == 2
    return t


class Step:
    "A step that is an object: it can be sent."

    def __init__(self):
        self.model = MLP(4, [5], 3, rng=0)
        self.optimizer = optimizers.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    def __call__(self, x, y):
        loss = outputs.cross_entropy(self.model(Tensor(x) if isinstance(x, np.ndarray) else x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def midway(loader, batches=1):
    for _, _ in zip(range(batches), loader, strict=False):
        pass
    return loader


def looked():
    t = trainer()
    d = callbacks.Diagnostics(X[:8], LABELS[:8])
    t.fit(X, LABELS, epochs=2, batch_size=8, callbacks=d, progress=False)
    return d


def data():
    return datasets.Dataset(X.copy(), LABELS.copy(), ("a", "b", "c"))


def affine(x):
    return x @ np.array([[1.0, 0.5], [-0.5, 1.0]])


THINGS = {
    "Tensor": tensor_states(Tensor), "Parameter": tensor_states(Parameter),
    **{name: module_states(name) for name in layers.__all__
       if inspect.isclass(getattr(layers, name)) and issubclass(getattr(layers, name), Module)},
    **{name: module_states(name) for name in ("Conv2d", "MaxPool2d", "AvgPool2d")},
    **{cls.__name__: {"fresh": lambda cls=cls: estimator(cls), "fitted": lambda cls=cls: used(estimator(cls))}
       for cls in (estimators.MLPClassifier, estimators.MLPRegressor)},
    "Paired": {"made": lambda: comparing.paired([1.0, 2.0, 4.0], [0.0, 3.0, 2.0])},
    "Runs": {"made": lambda: parallel.Runs([{"seed": 0, "loss": 1.0, "path": np.arange(3.0)}])},
    "TableEncoder": {"fresh": estimators.TableEncoder, "fitted": lambda: estimators.TableEncoder().fit(RECORDS)},
    "Stack": {"fresh": lambda: parallel.stack(member, seeds=2), "fitted": lambda: used(parallel.stack(member, seeds=2))},
    "RunFailed": {"raised": lambda: parallel.RunFailed("why", {"rate": 0.1}, 3)},
    "ForeignWeights": {"made": lambda: ForeignWeights(w=np.eye(3, dtype="float32"))},
    "TorchWeights": {"made": lambda: exchange_torch.to_torch(MLP(4, [3], 2, rng=0))},
    "Optimizer": optimizer_states(optimizers.SGD), "SGD": optimizer_states(optimizers.SGD, momentum=0.9, dampening=0.1),
    "Adagrad": optimizer_states(optimizers.Adagrad), "RMSprop": optimizer_states(optimizers.RMSprop, momentum=0.5, centered=True),
    "Adam": optimizer_states(optimizers.Adam, amsgrad=True), "AdamW": optimizer_states(optimizers.AdamW),
    "ParamGroup": {"used": lambda: rate_by_hand(stepped(optimizers.SGD(parameters(), momentum=0.9))).param_groups[0]},
    "LRScheduler": schedule_states(lambda o: schedules.StepLR(o, 2)), "StepLR": schedule_states(lambda o: schedules.StepLR(o, 2)),
    "LambdaLR": schedule_states(lambda o: schedules.LambdaLR(o, tenfold)),
    "MultiStepLR": schedule_states(lambda o: schedules.MultiStepLR(o, [2, 5])),
    "ExponentialLR": schedule_states(lambda o: schedules.ExponentialLR(o, 0.9)),
    "CosineAnnealingLR": schedule_states(lambda o: schedules.CosineAnnealingLR(o, 6)),
    "LinearLR": schedule_states(lambda o: schedules.LinearLR(o, 0.1)),
    "ConstantLR": schedule_states(lambda o: schedules.ConstantLR(o, 0.1)),
    "SequentialLR": schedule_states(lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=3), schedules.ExponentialLR(o, 0.9)], [3])),
    "OneCycleLR": schedule_states(lambda o: schedules.OneCycleLR(o, 0.1, total_steps=20)),
    "ReduceLROnPlateau": schedule_states(lambda o: schedules.ReduceLROnPlateau(o, patience=1)),
    "LRRangeTest": {"made": lambda: schedules.LRRangeTest([0.1, 0.2, 0.4], [3.0, 2.0, 1.0], 0.9)},
    "Trainer": {"fresh": trainer, "captured": lambda: used(trainer()), "plain": lambda: used(trainer(capture=False)),
                "frozen": frozen_trainer, "within an epoch": within_an_epoch,
                "own functions": lambda: used(trainer(loss=mean_of_squares, metrics=[spread]))},
    "History": {"fresh": History, "used": lambda: used(trainer()).history},
    "Callback": {"made": callbacks.Callback},
    "EarlyStopping": {"fresh": callbacks.EarlyStopping, "waiting": lambda: used(callbacks.EarlyStopping(), 2)},
    "Checkpoint": {"fresh": lambda: callbacks.Checkpoint("a", best="b"), "used": lambda: used(callbacks.Checkpoint("a", best="b"))},
    "Diagnostics": {"fresh": lambda: callbacks.Diagnostics(X, LABELS), "used": looked},
    "Loader": {"fresh": lambda: Loader(X, LABELS, 5, seed=3), "within an epoch": lambda: midway(Loader(X, LABELS, 5, seed=3), 3),
               "of pairs": lambda: Loader([(X[:3], LABELS[:3]), (X[3:], LABELS[3:])])},
    "Dataset": {"made": data},
    "StandardScaler": {"fresh": datasets.StandardScaler, "fitted": lambda: datasets.StandardScaler().fit(X)},
    "Captured": {"fresh": lambda: capture.capture(Step()), "captured": lambda: used(capture.capture(Step())),
                 "exact": lambda: used(capture.capture(Step(), fuse=False))},
    "Prediction": {"fresh": lambda: capture.Prediction(MLP(4, [3], 2, rng=0)),
                   "a program": lambda: used(capture.Prediction(MLP(4, [3], 2, rng=0)), 20)},
    "HookHandle": {"made": lambda: Linear(2, 2).register_forward_hook(doubled)},
    "Adadelta": optimizer_states(optim.Adadelta), "Adamax": optimizer_states(optim.Adamax), "NAdam": optimizer_states(optim.NAdam),
    "RAdam": optimizer_states(optim.RAdam), "Rprop": optimizer_states(optim.Rprop),
    "LBFGS": {"fresh": quasi_newton, "used": lambda: stepped(quasi_newton())},
    "Sorted": {"made": lambda: autograd.sort(Tensor([2.0, 1.0]))},
    "LoadResult": {"made": lambda: LoadResult(["a"], [])},
    "Summary": {"made": lambda: MLP(4, [3], 2).summary(4)}, "Row": {"made": lambda: MLP(4, [3], 2).summary(4).rows[0]},
    "CheckpointError": {"raised": lambda: deepnotes.checkpoints.CheckpointError("why")},
    "Uncapturable": {"raised": lambda: capture.Uncapturable("why")},
    "Unfolding": {"made": lambda: plotting.Unfolding([affine, affine], X[:, :2], LABELS)},
    "Symbol": {"made": lambda: activations.Symbol("a")}, "Card": {"made": lambda: activations.card("relu")},
    "UnfoldingViewer": {"made": lambda: plotting.UnfoldingViewer(
        np.zeros((2, 3, 9, 2)), LABELS[:5], names=["a", "b", "c"], steps=[0, 1])},
    "Drawing": {"made": lambda: autograd.draw(Tensor([1.0], requires_grad=True) * 2)},
}
PICTURES = {"Drawing", "Unfolding", "UnfoldingViewer", "Card"}                         # nothing is done to them: copy.copy may share
DICTS = {"ForeignWeights", "TorchWeights", "Runs"}                                     # containers, whose copy.copy shares what they hold
PEERS = {"MLPClassifier", "MLPRegressor", "TableEncoder"}    # as scikit-learn's: fit makes all anew
SHARING = PICTURES | DICTS | PEERS
CODE = {        # public classes that nobody keeps: they are code, or belong to a recording or to a graph
    "Line": "of a captured program", "Joined": "of a captured program", "Node": "of a graph", "ElementwiseNode": "of a graph",
    **dict.fromkeys(("Fused", "Given", "Group", "Listener", "Match", "Names", "Number", "Opaque", "OuterUpdate", "Plan", "Program",
                     "Run", "Seen", "Trial", "Watch", "Whole"), "of a recording, which a copy of a step makes anew"),
    "Prepared": "of a prediction, which a copy makes anew", "Modes": "of a prediction",
    "Snapshot": "of a segment of steps", "Segments": "of one recorded step, which a copy of a Trainer makes anew",
    **dict.fromkeys(("Alone", "Ranks", "Cut"), "of processes that train together, which a copy leaves"),
    **dict.fromkeys(("Flow", "Reader", "Writer"), "of a graph that is being written or read"),
    "Unit": "a function and its operation", "no_grad": "a block", "enable_grad": "a block", "observing": "a block", "asking": "a block",
}
INNER = ("compiler", "kernels")                                             # below what users hold
CASES = [(name, state) for name, states in THINGS.items() for state in states]


def public_classes():
    "Every class under a public name of a module of the library that users meet."
    found = {}
    for info in pkgutil.walk_packages(deepnotes.__path__, "deepnotes."):
        top = info.name.split(".")[1]
        if top in INNER or top.startswith("_") and top not in ("_modules",):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            if inspect.isclass(value := getattr(module, name)) and value.__module__.startswith("deepnotes"):
                found[name] = value
    return found


def test_no_public_class_is_forgotten():
    assert set(public_classes()) - set(CODE) == set(THINGS)


@pytest.mark.parametrize("name, state", CASES)
def test_every_copy_goes_on_to_the_same_bits_and_leaves_the_original_alone(name, state):
    make = THINGS[name][state]
    expected, thing = frozen(enumerate(go_on(make()))), make()
    assert expected or name in ("Callback", "LoadResult", "Row", "Summary", "CheckpointError", "Uncapturable", "RunFailed", "Symbol",
                                "Card", "Drawing")
    before = frozen(held(thing))
    for way, copied in WAYS.items():
        twin = copied(thing)
        assert type(twin) is type(thing), way
        if not isinstance(thing, tuple | Exception):                        # what cannot be changed may be itself
            assert twin is not thing, way
            assert apart(thing, twin) or way == "copy" and name in SHARING, f"{way}: the copy shares memory with the original"
        assert frozen(enumerate(go_on(twin))) == expected, f"{way}: the copy goes on otherwise"
        assert frozen(held(thing)) == before, f"{way}: what was done to the copy reached the original"
    assert frozen(enumerate(go_on(thing))) == expected, "copying changed the original"


def go_all(things):
    return {key: go_on(thing) for key, thing in things.items()}


def test_what_is_sent_to_a_spawned_process_goes_on_there():
    makers = {(name, state): THINGS[name][state] for name, state in CASES}
    things = {key: make() for key, make in makers.items()}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(go_all, (things,))
    for key, thing in things.items():
        assert frozen(enumerate(there[key])) == frozen(enumerate(go_on(thing))), key


WHOLE = {way: copied for way, copied in WAYS.items() if way != "copy"}    # copy.copy of a tuple is that tuple


@pytest.mark.parametrize("way", WHOLE)
def test_what_belongs_together_stays_together(way):
    t = used(trainer())
    model, optimizer, scheduler, run, first = WHOLE[way]((t.model, t.optimizer, t.scheduler, t, t.model[0].weight))
    assert run.model is model and run.optimizer is optimizer and run.scheduler is scheduler and scheduler.optimizer is optimizer
    assert model[0].weight is first and {id(p) for p in optimizer.state} == {id(p) for p in model.parameters()}
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in model.parameters()]
    go_trainer(run)
    optimizer.param_groups[0]["lr"] = 0.0                                   # the numbers that the step reads are the group's
    before = model.state_dict()
    go_optimizer(optimizer)
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())
    own = WHOLE[way](Own())
    assert own.same is own.scale


@pytest.mark.parametrize("way", WHOLE)
def test_further_groups_of_a_copy_are_its_own(way):
    o = stepped(optimizers.Adam(parameters()))
    twin = WHOLE[way](o)
    twin.add_param_group({"params": [Parameter(np.ones(2))], "lr": 0.5})
    assert len(o.param_groups) == 1 and len(o.state) == 2 and len(twin.param_groups) == 2
    assert len(go_optimizer(o)) + 4 == len(go_optimizer(twin))


def closed_step():
    step = Step()

    def update(x, y):
        return step(x, y)

    def outer(x, y, scale=1.0):
        return update(x, y)

    return capture.capture(outer), step


def test_a_captured_function_is_copied_with_what_it_holds():
    "Python copies a function as itself; the copy would train the model of the original."
    (fast, step), (other, _) = closed_step(), closed_step()
    used(fast), used(other)
    ways = [copy.deepcopy] if cloudpickle is None else [copy.deepcopy, lambda x: pickle.loads(cloudpickle.dumps(x))]
    expected = frozen(enumerate(go_captured(other)))
    for copied in ways:
        before = frozen(held(step))
        twin, its = copied((fast, step))
        assert frozen(enumerate(go_captured(twin))) == expected and twin.captured
        assert frozen(held(step)) == before and frozen(held(its)) != before, "the step trains the model beside it"
    assert frozen(enumerate(go_captured(fast))) == expected


class Copying(callbacks.Callback):
    "Copies the run from within, in the middle of an epoch and at its end."

    every = 2

    def __init__(self):
        self.twins = []

    def on_train_batch_end(self, trainer, step):
        self.twins.append(pickle.loads(pickle.dumps(trainer)))

    def on_epoch_end(self, trainer, row):
        self.twins.append(copy.deepcopy(trainer))


def test_a_run_copied_while_it_trains_goes_on_from_there():
    def run(t, epochs, copying=()):
        stopper = callbacks.EarlyStopping("loss", patience=50)
        t.fit(X, LABELS, epochs=epochs, batch_size=8, callbacks=[stopper, *copying], progress=False)
        return frozen(held(t.state_dict())), frozen(held(stopper.state_dict()))

    copying, straight = Copying(), trainer()
    ended = run(straight, 3, [copying])
    assert len(copying.twins) == 6
    for twin in copying.twins:
        assert run(twin, 3 - len(twin.history)) == ended


def test_a_mapped_file_travels_by_its_name(tmp_path):
    np.save(tmp_path / "x.npy", np.tile(X, (1, 100)))
    loader = midway(Loader(tmp_path / "x.npy", LABELS, 5, seed=1), 2)
    data = pickle.dumps(loader)
    assert len(data) < loader.arrays[0].nbytes / 10
    for twin in (pickle.loads(data), copy.deepcopy(loader), copy.copy(loader)):
        assert isinstance(twin.arrays[0], np.memmap) and not twin.in_memory and twin.step == 2
        assert frozen(enumerate(go_on(twin))) == frozen(enumerate(go_on(copy.deepcopy(loader))))
    part = Loader(loader.arrays[0][3:], LABELS[3:], 5)                      # a slice of a map: its numbers travel
    assert np.array_equal(pickle.loads(pickle.dumps(part)).arrays[0], part.arrays[0])


def test_a_tensor_of_a_class_of_ones_own_keeps_its_attributes():
    class Named(Parameter):
        def __init__(self, name):
            super().__init__(np.zeros(2, "float32"))
            self.name = name

    twin = copy.deepcopy(Named("w"))
    assert type(twin) is Named and twin.name == "w" and twin.requires_grad


def test_computed_tensors_say_why_they_cannot_be_copied():
    y = Tensor(np.ones(2), requires_grad=True) * 2
    for copied in WAYS.values():
        with pytest.raises(RuntimeError, match="detach"):
            copied(y)
