"""Many networks on one program: each has the bits of a run of its own, and none can touch another."""

import copy
import functools
import pickle

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels
from deepnotes.parallel import Stack, stack, stacks
from deepnotes.training import Loader

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(70, 5)), RNG.integers(0, 3, 70)
SIZES = {"epochs": 3, "batch_size": 16, "progress": False}      # four batches of 16 rows and one of 6


def network(seed, dtype="float32", **settings):
    return dn.MLP(5, [7], 3, rng=seed, dtype=dtype, **settings)


def plain(seed, lr=0.05, decay=0.0, dtype="float32"):
    model = network(seed, dtype)
    return dn.Trainer(model, optimizer=dn.optimizers.AdamW(model.parameters(), lr=lr, weight_decay=decay), seed=seed)


def rich(seed, lr=0.05, decay=0.0, dtype="float32"):
    "With random states, running statistics, momentum, clipping, a schedule for every step and a metric."
    model = network(seed, dtype, dropout=0.3, norm="batch")
    optimizer = dn.optimizers.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay)
    return dn.Trainer(model, functools.partial(dn.outputs.cross_entropy, label_smoothing=0.1), optimizer, seed, clip_grad_norm=1.0,
                      metrics=spread, scheduler=dn.schedules.CosineAnnealingLR(optimizer, 30), scheduler_interval="step")


def spread(outputs, targets):
    return outputs.std()


def scheduled(seed, lr=0.05, decay=0.0, dtype="float32"):
    model = network(seed, dtype)
    optimizer = dn.optimizers.Adam(model.parameters(), lr=lr, weight_decay=decay)
    return dn.Trainer(model, optimizer=optimizer, seed=seed, scheduler=dn.schedules.ExponentialLR(optimizer, 0.5))


def all_of(trainer):
    "All that a run is, down to the bits."
    state = [[(name, a.tobytes()) for name, a in sorted(trainer.model.state_dict().items())],
             [[(name, a.tobytes()) for name, a in arrays.items()] for arrays in trainer.optimizer.state.values()],
             [dict(group, params=None) for group in trainer.optimizer.param_groups],
             trainer.scheduler and trainer.scheduler.state_dict()]
    return copy.deepcopy(trainer.history.columns), state


def single(build, member, *fits):
    trainer = build(**member)
    for data, settings in fits:
        trainer.fit(*data, **settings)
    return trainer


FOUR = [{"lr": 0.05}, {"lr": 0.2, "decay": 0.1}]


# --- the bits of single runs ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("build", [plain, rich, scheduled])
def test_each_member_has_the_bits_of_a_run_of_its_own(build, dtype, backend):
    with kernels.backend(backend):
        members = stack(functools.partial(build, dtype=dtype), FOUR, seeds=2)
        members.fit(X, Y, validation=(X[:20], Y[:20]), **SIZES)
        assert members.stacked == (backend == "numba")
        assert members.reason == (None if members.stacked else "the numpy backend runs no compiled loops")
        assert [tuple(member.items()) for member in members.members[:3]] == [
            (("lr", 0.05), ("seed", 0)), (("lr", 0.05), ("seed", 1)), (("lr", 0.2), ("decay", 0.1), ("seed", 0))]
        for member, trainer in zip(members.members, members, strict=True):
            alone = single(functools.partial(build, dtype=dtype), member, ((X, Y), {**SIZES, "validation": (X[:20], Y[:20])}))
            assert all_of(trainer) == all_of(alone)


def test_one_recording_serves_all_members_and_later_fits():
    members = stack(plain, seeds=3)
    members.fit(X, Y, **SIZES)
    recorded = members[0]._step
    members.fit(X, Y, **SIZES)
    assert members[0]._step is recorded and recorded.captured
    assert members[1]._step is None and members[2]._step is None
    for seed, trainer in enumerate(members):
        assert all_of(trainer) == all_of(single(plain, {"seed": seed}, ((X, Y), SIZES), ((X, Y), SIZES)))


def test_a_member_trains_on_alone_and_the_first_ones_program_is_its_own_again():
    members = stack(plain, seeds=2)
    members.fit(X, Y, **SIZES)
    second = all_of(members[1])
    members[0].fit(X, Y, **SIZES)
    assert all_of(members[1]) == second
    members[1].fit(X, Y, **SIZES)
    for seed, trainer in enumerate(members):
        assert all_of(trainer) == all_of(single(plain, {"seed": seed}, ((X, Y), SIZES), ((X, Y), SIZES)))


@pytest.mark.parametrize("rows, batch_size", [(64, 16), (9, 16), (17, 16)])
def test_epochs_without_a_smaller_batch_or_of_nothing_else(rows, batch_size):
    settings = {**SIZES, "batch_size": batch_size}
    members = stack(plain, seeds=2)
    members.fit(X[:rows], Y[:rows], **settings)
    assert members.stacked
    for seed, trainer in enumerate(members):
        assert all_of(trainer) == all_of(single(plain, {"seed": seed}, ((X[:rows], Y[:rows]), settings)))


def test_weights_of_rows_and_ignored_labels_count_as_in_single_runs():
    weight, labels = np.where(Y == 1, 0.0, 1.5), np.where(np.arange(70) % 7, Y, -100)
    for data, more in (((X, Y), {"sample_weight": weight, "class_weight": {2: 3.0}}), ((X, labels), {})):
        members = stack(plain, seeds=2)
        members.fit(*data, **SIZES, **more)
        assert members.stacked
        for seed, trainer in enumerate(members):
            assert all_of(trainer) == all_of(single(plain, {"seed": seed}, (data, {**SIZES, **more})))


def test_metrics_without_validation_are_those_of_the_training_data():
    members = stack(rich, seeds=2)
    members.fit(X, Y, **SIZES)
    for seed, trainer in enumerate(members):
        assert "spread" in trainer.history and all_of(trainer) == all_of(single(rich, {"seed": seed}, ((X, Y), SIZES)))


# --- no member touches another -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("diverging", [0, 1])
def test_a_member_that_diverges_stops_as_a_single_run_and_leaves_the_others_alone(diverging):
    def build(seed, lr):
        model = network(seed)
        return dn.Trainer(model, "mse_loss", dn.optimizers.SGD(model.parameters(), lr=lr), seed=seed)

    data = X, RNG.normal(size=(70, 3))
    rates = [{"lr": 0.05}, {"lr": 0.01}]
    rates[diverging] = {"lr": 1e5}
    members = stack(build, rates, seeds=[4])
    with pytest.warns(RuntimeWarning, match="1 of 2 members .*seed 4, lr=100000"):
        members.fit(*data, **SIZES)
    assert list(members.errors) == [diverging]
    with pytest.raises(FloatingPointError) as alone:
        (fails := build(4, 1e5)).fit(*data, **SIZES)
    assert str(members.errors[diverging]) == str(alone.value)
    assert all_of(members[diverging]) == all_of(fails) and np.isfinite(members[diverging].forward(X)).all()
    other = 1 - diverging
    assert all_of(members[other]) == all_of(single(build, members.members[other], (data, SIZES)))
    curves = members.curves()
    assert np.isnan(curves[diverging]).any() and np.isfinite(curves[other]).all()
    members.fit(*data, **SIZES)                 # goes on with those that are left
    assert len(members[other].history) == 6 and len(members[diverging].history) == len(fails.history)


@pytest.mark.parametrize("part", [0, 1])
def test_a_program_that_reaches_the_first_member_by_another_way_is_found_out(part):
    members = stack(plain, seeds=2)
    members.fit(X, Y, **SIZES)
    arrays = [X.astype("float32"), Y]
    epochs = stacks._recorded(members.trainers, arrays, 16)
    before = [all_of(trainer) for trainer in members]
    steps = epochs.parts[part]
    assert stacks._stays_apart(steps)
    table, words, places = steps.moving[-1]
    for hidden in range(len(words)):
        left = np.arange(len(words)) != hidden
        steps.moving[-1] = table, words[left], [member[left] for member in places]
        assert not stacks._stays_apart(steps)
    assert [all_of(trainer) for trainer in members] == before


def test_ctrl_c_leaves_all_members_whole_and_the_rest_comes_to_the_same_numbers(monkeypatch):
    members, calls, run = stack(plain, seeds=3), [], stacks._Epochs.run

    def interrupted(self, number, loader, interrupts):
        calls.append(number)
        if len(calls) == 5:                     # the second member's second epoch
            steps = self.parts[1].run
            monkeypatch.setattr(self.parts[1], "run", lambda n: (steps(n), (_ for _ in ()).throw(KeyboardInterrupt)))
        run(self, number, loader, interrupts)

    monkeypatch.setattr(stacks._Epochs, "run", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"epochs=2\)"):
        members.fit(X, Y, **SIZES)
    monkeypatch.undo()
    assert [len(history) for history in members.histories] == [2, 1, 1]
    members.fit(X, Y, **{**SIZES, "epochs": 2})
    for seed, trainer in enumerate(members):
        assert all_of(trainer) == all_of(single(plain, {"seed": seed}, ((X, Y), SIZES)))


# --- what cannot be stacked --------------------------------------------------------------------------------------------------------
class Shifted(dn.layers.Module):
    def __init__(self, seed):
        self.inner = network(seed)

    def forward(self, x):
        return self.inner(x) + 1.0


def own_code(seed):
    return dn.Trainer(Shifted(seed), seed=seed)


def eager(seed):
    return dn.Trainer(network(seed), seed=seed, capture=False)


@pytest.mark.parametrize("build, why", [(own_code, "code that is not this library's"), (eager, "capture=False")])
def test_what_is_not_recorded_trains_one_by_one_to_the_same_bits_and_says_why(build, why):
    # A process looks twice at a step of somebody else's code before it records it: its first run rounds as plain Python does.
    single(build, {"seed": 0}, ((X, Y), SIZES))
    members = stack(build, seeds=2)
    members.fit(X, Y, **SIZES)
    assert members.stacked is False and why in members.reason
    for seed, trainer in enumerate(members):
        assert all_of(trainer) == all_of(single(build, {"seed": seed}, ((X, Y), SIZES)))


def varied(seed, width=4, p=0.2, act="relu", loss="cross_entropy", momentum=0.9, clip=None, frozen=False, own=True, layers=1):
    model = dn.MLP(5, [width] * layers, 3, act, dropout=p, rng=seed)
    model[0].weight.requires_grad = not frozen
    model[-1].weight = model[-1].weight if own else SHARED
    optimizer = dn.optimizers.SGD(model.parameters(), lr=0.1, momentum=momentum)
    return dn.Trainer(model, loss, optimizer, seed, clip_grad_norm=clip)


SHARED = dn.layers.Linear(4, 3, rng=0).weight
DIFFERENT = {
    "width": ([4, 5], r"model.*weight is float32 of shape \(5, 4\) in the first and float32 of shape \(5, 5\)"),
    "p": ([0.2, 0.3], r"model.*\.p is 0.2 in the first and 0.3"), "act": (["relu", "tanh"], "type ReLU in the first and of type Tanh"),
    "loss": (["cross_entropy", "mse_loss"], "loss is"), "momentum": ([0.9, 0.0], "rule"), "clip": ([None, 1.0], "clip_grad_norm"),
    "frozen": ([False, True], "requires_grad is True in the first and False"), "layers": ([1, 2], "model"),
    "own": ([False, False], "share the memory of model"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_members_that_differ_in_more_than_memory_are_refused_by_the_name_of_it(name):
    values, message = DIFFERENT[name]
    with pytest.raises(ValueError, match=f"stack: .*{message}.*Many networks, one program"):
        stack(varied, [{name: value} for value in values], seeds=[3, 4] if values[0] == values[1] else [3])


def test_a_weight_that_stands_in_two_places_does_so_in_all_members():
    def build(seed, tied):
        model = dn.layers.Sequential(dn.layers.Linear(5, 5, rng=seed), dn.layers.Linear(5, 5, rng=seed + 9))
        if tied:
            model[1].weight = model[0].weight
        return dn.Trainer(model, "mse_loss", seed=seed)

    members = stack(build, [{"tied": True}], seeds=2)
    members.fit(X, X, **SIZES)
    assert members.stacked
    for seed, trainer in enumerate(members):
        assert trainer.model[0].weight is trainer.model[1].weight
        assert all_of(trainer) == all_of(single(build, {"seed": seed, "tied": True}, ((X, X), SIZES)))
    for order in ([True, False], [False, True]):
        with pytest.raises(ValueError, match="stack: the members are no networks of one kind"):
            stack(build, {"tied": order}, seeds=1)


def test_what_changed_since_the_members_were_built_is_seen():
    members = stack(plain, seeds=2)
    members[1].model[0].weight.requires_grad = False
    with pytest.raises(ValueError, match="requires_grad"):
        members.fit(X, Y, **SIZES)
    assert all(len(history) == 0 for history in members.histories)


def test_what_build_and_fit_are_given_is_checked():
    for build, error, message in ((network, TypeError, "build returns a Trainer"), (lambda seed: None, TypeError, "got None")):
        with pytest.raises(error, match=message):
            stack(build, seeds=1)
    with pytest.raises(ValueError, match="stack: seeds are different integers"):
        stack(plain, seeds=[1, 1])
    with pytest.raises(TypeError, match="stack: a grid names the values"):
        stack(plain, {"lr": 0.1})
    members = stack(plain, seeds=2)
    with pytest.raises(TypeError, match="got Loader.*each member has an order"):
        members.fit(Loader(X, Y), None)
    with pytest.raises(ValueError, match="stack.fit: epochs"):
        members.fit(X, Y, epochs=-1)
    with pytest.raises(ValueError, match="class 7"):
        members.fit(X, np.full(70, 7), **SIZES)
    members.fit(X, Y, **SIZES)
    assert all_of(members[1]) == all_of(single(plain, {"seed": 1}, ((X, Y), SIZES)))


# --- the results --------------------------------------------------------------------------------------------------------------------
def test_members_are_asked_together():
    members = stack(plain, {"lr": [0.05, 0.1]}, seeds=2)
    assert repr(members) == "Stack(4 members that differ in lr, seed; epochs so far: 0)" and members.curves().shape == (4, 0)
    histories = members.fit(X, Y, **SIZES)
    assert [history["loss"] for history in histories] == members.curves().tolist()
    assert members.networks[2] is members[2].model and len(members) == 4
    table = members.evaluate(X, Y)
    assert list(table[3]) == ["lr", "seed", "loss", "accuracy"] and table[3]["loss"] == members[3].evaluate(X, Y)["loss"]
    for name in ("forward", "predict", "predict_proba"):
        found = getattr(members, name)(X)
        assert found.shape[:2] == (4, 70) and all(
            np.array_equal(mine, getattr(trainer, name)(X)) for mine, trainer in zip(found, members, strict=True))
    with pytest.raises(ValueError, match="'loss' is the name of a setting and of a result"):
        stack(lambda seed, loss: plain(seed), {"loss": ["a"]}, seeds=1).evaluate(X, Y)


def test_a_copy_goes_on_to_the_same_bits_and_leaves_the_original_alone():
    members = stack(plain, seeds=2)
    members.fit(X, Y, **SIZES)
    before = [all_of(trainer) for trainer in members]
    for twin in (pickle.loads(pickle.dumps(members)), copy.deepcopy(members)):
        assert isinstance(twin, Stack)
        twin.fit(X, Y, **SIZES)
        assert twin.stacked and [all_of(trainer) for trainer in members] == before
        for seed, trainer in enumerate(twin):
            assert all_of(trainer) == all_of(single(plain, {"seed": seed}, ((X, Y), SIZES), ((X, Y), SIZES)))
