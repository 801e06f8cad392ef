"""Schedules: PyTorch's rates step by step, saving, feeds for a captured step, the range test, errors."""
import json
import math

import numpy as np
import pytest
from conftest import ROOT

from deepnotes import schedules
from deepnotes.autograd import Tensor
from deepnotes.capture import capture
from deepnotes.layers import MLP
from deepnotes.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, clip_grad_norm_
from deepnotes.outputs import cross_entropy, mse_loss
from deepnotes.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRRangeTest,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
    lr_range_test,
)

TABLE = json.loads((ROOT / "tests" / "data" / "schedules.json").read_text())    # by data/make_optimizers.py


def groups():
    return [{"params": [Tensor(np.zeros(1), requires_grad=True)], "lr": lr} for lr in (0.1, 0.04)]


def make_optimizer(name):
    return SGD(groups(), momentum=0.9) if name == "SGD" else Adam(groups())


def make(optimizer, name, options):
    options = dict(options)
    if name == "SequentialLR":
        options["schedulers"] = [make(optimizer, *inner) for inner in options["schedulers"]]
    if name == "LambdaLR":
        options["lr_lambda"] = lambda t: 1 / (1 + t)
    return getattr(schedules, name)(optimizer, **options)


def in_force(optimizer):
    return [[g["lr"], g["momentum"] if "momentum" in g else g["betas"][0]] for g in optimizer.param_groups]


CASES = pytest.mark.parametrize("optimizer_name, name, options, expected", TABLE["schedules"],
                                ids=[f"{c[1]}-{i}" for i, c in enumerate(TABLE["schedules"])])


@CASES
def test_rates_equal_pytorchs(optimizer_name, name, options, expected):
    optimizer = make_optimizer(optimizer_name)
    scheduler = make(optimizer, name, options)
    for k, row in enumerate(expected):
        np.testing.assert_allclose(in_force(optimizer), row, rtol=1e-12, atol=1e-15, err_msg=f"step {k}")
        assert scheduler.get_last_lr() == [lr for lr, _ in in_force(optimizer)]
        optimizer.step()
        scheduler.step()


@CASES
def test_listing_the_rates_changes_nothing_and_feeds_are_what_steps_write(optimizer_name, name, options, expected):
    optimizer = make_optimizer(optimizer_name)
    scheduler = make(optimizer, name, options)
    for _ in range(3):
        scheduler.step()
    before = json.dumps(scheduler.state_dict()), in_force(optimizer)
    rates, feeds = scheduler.rates(20), scheduler.feeds(20)
    assert before == (json.dumps(scheduler.state_dict()), in_force(optimizer))
    np.testing.assert_allclose(rates, [[lr for lr, _ in row] for row in expected[3:23]], rtol=1e-12, atol=1e-15)
    for k in range(20):
        for array, values in feeds:
            assert array.shape == (1,) and array[0] == values[k]
        scheduler.step()
    other = make_optimizer(optimizer_name)
    skipping = make(other, name, options)
    skipping.advance(23)
    assert in_force(other) == in_force(optimizer)


@CASES
def test_a_saved_schedule_goes_on(optimizer_name, name, options, expected):
    optimizer = make_optimizer(optimizer_name)
    scheduler = make(optimizer, name, options)
    scheduler.advance(11)
    saved = json.loads(json.dumps(scheduler.state_dict())), optimizer.state_dict()
    other = make_optimizer(optimizer_name)
    resumed = make(other, name, options)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for row in expected[11:]:
        np.testing.assert_allclose(in_force(other), row, rtol=1e-12, atol=1e-15)
        resumed.step()


@pytest.mark.parametrize("options, expected", TABLE["plateau"])
def test_plateaus_equal_pytorchs(options, expected):
    optimizer = SGD(groups())
    scheduler = ReduceLROnPlateau(optimizer, **options)
    for k, (value, row) in enumerate(zip(TABLE["metrics"], expected, strict=True)):
        scheduler.step(Tensor(np.float64(value)) if k % 2 else value)
        np.testing.assert_allclose(scheduler.get_last_lr(), row, rtol=1e-12)
        if k == 20:                                                             # save, make anew, go on
            saved = json.loads(json.dumps(scheduler.state_dict()))
            scheduler = ReduceLROnPlateau(optimizer)
            scheduler.load_state_dict(saved)
    assert expected[-1] != expected[0]


def test_a_plateau_counts_nan_as_no_progress_and_wants_a_measurement():
    optimizer = SGD(groups())
    scheduler = ReduceLROnPlateau(optimizer, patience=1)
    for value in (1.0, math.nan, math.nan):
        scheduler.step(value)
    assert scheduler.best == 1.0 and abs(scheduler.get_last_lr()[0] - 0.01) < 1e-15
    with pytest.raises(TypeError, match="pass the measurement"):
        scheduler.step()


def test_a_rate_set_by_hand_lasts_until_the_next_step():
    optimizer = SGD(groups())
    scheduler = StepLR(optimizer, 2)
    optimizer.param_groups[0]["lr"] = 7.0
    assert scheduler.get_last_lr()[0] == 7.0
    scheduler.step()
    assert scheduler.get_last_lr()[0] == 0.1


def test_a_step_that_fails_leaves_the_position():
    optimizer = SGD(groups())
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=3, cycle_momentum=False)
    for _ in range(3):
        scheduler.step()
    with pytest.raises(ValueError, match="beyond the cycle of 3 steps"):
        scheduler.step()
    assert scheduler.last_epoch == 3


def test_groups_that_came_later_are_named_in_the_error_and_the_position_stays():
    optimizer = SGD(groups())
    scheduler = StepLR(optimizer, 2)
    optimizer.add_param_group({"params": [Tensor(np.zeros(1), requires_grad=True)]})
    for call in (scheduler.step, lambda: scheduler.rates(3), lambda: scheduler.feeds(3)):
        with pytest.raises(ValueError, match="made for 2 groups and the optimizer has 3"):
            call()
    assert scheduler.last_epoch == 0


@pytest.mark.parametrize("eps, expected", [(0.5, 1.0), (0.49, 0.5)])
def test_a_plateau_changes_a_rate_by_more_than_eps_or_not_at_all(eps, expected):
    optimizer = SGD(groups(), lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, eps=eps)
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    scheduler.step(3.0)
    scheduler.step(3.0)
    assert {group["lr"] for group in optimizer.param_groups} == {expected}


def test_a_plateau_refuses_what_is_no_number_and_does_not_count_it():
    scheduler = ReduceLROnPlateau(SGD(groups()))
    for value in ("0.3", np.ones(3), None if scheduler.last_epoch else [1.0]):
        with pytest.raises(TypeError, match="pass the measurement, one number"):
            scheduler.step(value)
    assert scheduler.last_epoch == 0
    scheduler.step(np.array([0.5]))
    assert scheduler.best == 0.5 and scheduler.last_epoch == 1


@pytest.mark.parametrize("pct_start, total", [(0.1, 10), (0.5, 2), (0.0, 4)])
def test_one_cycle_whose_way_up_has_no_length_starts_at_or_below_the_top(pct_start, total):
    rates = OneCycleLR(SGD(groups()), 1.0, total_steps=total, pct_start=pct_start, cycle_momentum=False).rates(total)[:, 0]
    assert 0.5 < rates[0] <= 1.0 and (np.diff(rates) < 0).all() and rates[-1] == pytest.approx(4e-6)


def test_a_refused_cycle_leaves_no_base_rate_behind():
    optimizer = SGD(groups(), momentum=0.9)
    with pytest.raises(ValueError, match="max_momentum must be"):
        OneCycleLR(optimizer, 1.0, total_steps=10, max_momentum=1.0)
    assert CosineAnnealingLR(optimizer, 4).base_lrs == [0.1, 0.04]


@pytest.mark.parametrize("make_one, key, value", [
    (lambda o: StepLR(o, 3), "last_epoch", "2"), (lambda o: StepLR(o, 3), "step_size", 2.5), (lambda o: StepLR(o, 3), "base_lrs", 0.1),
    (lambda o: StepLR(o, 3), "base_lrs", [0.1]), (lambda o: StepLR(o, 3), "base_lrs", [0.1, None]),
    (lambda o: MultiStepLR(o, [2, 3]), "milestones", None), (lambda o: MultiStepLR(o, [2, 3]), "milestones", [2.5]),
    (lambda o: ReduceLROnPlateau(o), "best", "low"), (lambda o: ReduceLROnPlateau(o), "mode", 3),
])
def test_a_damaged_state_is_refused_and_changes_nothing(make_one, key, value):
    scheduler = make_one(SGD(groups()))
    before = json.dumps(scheduler.state_dict())
    with pytest.raises(ValueError, match="nothing was changed"):
        scheduler.load_state_dict({**scheduler.state_dict(), key: value})
    assert json.dumps(scheduler.state_dict()) == before


def test_a_multi_step_schedule_takes_over_other_milestones():
    scheduler = MultiStepLR(SGD(groups()), [])
    scheduler.load_state_dict(MultiStepLR(SGD(groups()), [1, 2, 5]).state_dict())
    assert scheduler.milestones == [1, 2, 5]


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 0.5], [1.0, math.inf, math.inf], [math.nan] * 5])
def test_a_range_test_that_saw_too_little_suggests_nothing(losses):
    found = LRRangeTest(np.geomspace(1e-4, 1, 5)[: len(losses)], losses, 0.9)
    assert math.isnan(found.suggestion) and "nan" in repr(found)
    assert found.plot().get_xlabel() == "learning rate"


class Line:
    "A linear model with a buffer, as lr_range_test sees a Module."

    def __init__(self):
        self.weight, self.calls, self.training = Tensor(np.zeros((3, 1)), requires_grad=True), np.zeros(1), False

    def __call__(self, x):
        self.calls[0] += 1
        return x @ self.weight

    def state_dict(self):
        return {"weight": self.weight.data.copy(), "calls": self.calls.copy()}

    def load_state_dict(self, state):
        self.weight.data[...], self.calls[...] = state["weight"], state["calls"]

    def train(self, mode=True):
        self.training = mode


def range_test(loss=mse_loss, **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 16, 3))
    model = Line()
    optimizer = SGD(model.weight, lr=0.01, momentum=0.5)
    model.weight.grad = mark = Tensor(np.ones((3, 1)))
    optimizer.step()
    before = model.state_dict(), optimizer.state_dict()
    array = model.weight.data
    try:
        result = lr_range_test(model, loss, optimizer, [(b, b @ np.ones((3, 1))) for b in x], **options)
    finally:
        after = model.state_dict(), optimizer.state_dict()
        assert model.weight.data is array and model.weight.grad is mark and model.training is False
        for name in before[0]:
            np.testing.assert_array_equal(before[0][name], after[0][name])
        assert before[1]["param_groups"] == after[1]["param_groups"]
        for name, state in before[1]["state"][0].items():
            np.testing.assert_array_equal(state, after[1]["state"][0][name])
    return result


def test_the_range_test_finds_the_limit_and_puts_everything_back():
    result = range_test(start_lr=1e-4, end_lr=100.0, steps=120)
    assert 10 < len(result.rates) < 120                                          # it stopped when the loss exploded
    # gradient descent with momentum 1/2 on curvatures near 2 is stable below 2 (1 + 1/2) / 2 = 1.5
    assert 0.01 < result.suggestion < 1.5 < result.rates[-1]
    np.testing.assert_allclose(result.rates[1:] / result.rates[:-1], 1e6 ** (1 / 119), rtol=1e-9)
    ax = result.plot()
    assert ax.get_xscale() == "log" and ax.get_xlabel() == "learning rate"


def test_the_range_test_puts_everything_back_when_the_loss_fails():
    def fails(output, target):
        raise KeyError("loss")
    with pytest.raises(KeyError):
        range_test(loss=fails)


SGD0 = SGD(groups())


@pytest.mark.parametrize("call, error, words", [
    (lambda: StepLR("sgd", 3), TypeError, "StepLR: optimizer must be an Optimizer, got str"),
    (lambda: StepLR(SGD0, 0), ValueError, "step_size must be a positive integer"),
    (lambda: StepLR(SGD0, 2.5), ValueError, "step_size must be"),
    (lambda: ExponentialLR(SGD0, math.nan), ValueError, "gamma must be"),
    (lambda: MultiStepLR(SGD0, [3, -1]), ValueError, "a milestone must be"),
    (lambda: CosineAnnealingLR(SGD0, 0), ValueError, "T_max must be"),
    (lambda: LinearLR(SGD0, start_factor=0.0), ValueError, "start_factor must be"),
    (lambda: LinearLR(SGD0, end_factor=1.5), ValueError, "end_factor must be"),
    (lambda: ConstantLR(SGD0, factor=-0.1), ValueError, "factor must be"),
    (lambda: LambdaLR(SGD0, [abs]), ValueError, "one for each of 2 groups"),
    (lambda: SequentialLR(SGD0, [StepLR(SGD0, 1)], [3]), ValueError, "need 0 increasing milestones"),
    (lambda: SequentialLR(SGD0, [StepLR(SGD(groups()), 1)], []), ValueError, "of this optimizer"),
    (lambda: OneCycleLR(SGD0, 0.1), ValueError, "give total_steps"),
    (lambda: OneCycleLR(SGD0, 0.1, total_steps=10), ValueError, "cycle_momentum needs"),
    (lambda: OneCycleLR(SGD0, [0.1], total_steps=10), ValueError, "1 entries for 2 groups"),
    (lambda: OneCycleLR(SGD0, 0.1, total_steps=10, anneal_strategy="sin"), ValueError, "anneal_strategy must be"),
    (lambda: OneCycleLR(SGD0, 0.1, total_steps=10, pct_start=1.5), ValueError, "pct_start must be"),
    (lambda: ReduceLROnPlateau(SGD0, mode="best"), ValueError, "mode must be"),
    (lambda: ReduceLROnPlateau(SGD0, factor=1.0), ValueError, "factor must be"),
    (lambda: StepLR(SGD0, 3).load_state_dict(ExponentialLR(SGD0, 0.9).state_dict()), ValueError, "nothing was changed"),
    (lambda: StepLR(SGD0, 3).load_state_dict(None), ValueError, "nothing was changed"),
    (lambda: LRScheduler(SGD0), TypeError, "a schedule defines rate"),
    (lambda: MultiStepLR(SGD0, 3), TypeError, "milestones must be several whole numbers"),
    (lambda: SequentialLR(SGD0, StepLR(SGD0, 1), []), TypeError, "expected a list of schedules"),
    (lambda: SequentialLR(SGD0, [ReduceLROnPlateau(SGD0)], []), ValueError, "a function of the step"),
    (lambda: StepLR(SGD0, 3).rates(-1), ValueError, "n must be an integer of at least 0"),
    (lambda: StepLR(SGD0, 3).feeds(2.5), ValueError, "n must be an integer of at least 0"),
    (lambda: lr_range_test(lambda x: x, lambda a, b: 3.0, SGD0, [([1.0], [1.0])]), TypeError, "loss must return a Tensor"),
    (lambda: lr_range_test(abs, abs, SGD0, [], diverge=math.nan), ValueError, "diverge must be"),
    (lambda: lr_range_test(abs, abs, SGD0, []), ValueError, "there are no batches"),
    (lambda: lr_range_test(abs, abs, SGD0, [], start_lr=1.0, end_lr=0.1), ValueError, "start_lr must be less"),
    (lambda: lr_range_test(abs, abs, "sgd", []), TypeError, "optimizer must be"),
])
def test_errors_teach(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "chapter Schedules" in str(caught.value)


@pytest.mark.parametrize("make_one, cycle", [
    (lambda p: SGD(p, lr=0.1), False), (lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True), True),
    (lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.2), True), (lambda p: Adagrad(p, lr=0.1, lr_decay=0.1), False),
    (lambda p: RMSprop(p, momentum=0.5), False), (lambda p: RMSprop(p, centered=True), False), (Adam, True),
    (lambda p: Adam(p, amsgrad=True), False), (AdamW, True),
], ids=["sgd", "nesterov", "dampening", "adagrad", "rmsprop", "centered", "adam", "amsgrad", "adamw"])
def test_a_captured_step_follows_the_schedule_bit_for_bit(make_one, cycle):
    rng = np.random.default_rng(0)
    X, y, order = rng.normal(size=(96, 6)).astype("float32"), rng.integers(0, 3, 96), np.arange(96)
    weights = []
    for captured in (False, True):
        model = MLP(6, [8], 3, rng=0)
        optimizer = make_one(model.parameters())
        scheduler = OneCycleLR(optimizer, 0.05, total_steps=30) if cycle else CosineAnnealingLR(optimizer, 30)

        def step(x, t, model=model, optimizer=optimizer):
            loss = cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            return loss

        run = capture(step, fuse=False) if captured else None      # fused sums may round otherwise
        for _ in range(8):
            if captured:
                run.run((X, y), order, 32, feeds=scheduler.feeds(3))
                scheduler.advance(3)
            else:
                for rows in order.reshape(3, 32):
                    step(Tensor(X[rows]), y[rows])
                    scheduler.step()
        if captured:
            assert run.captured, run.reason
        weights.append(np.concatenate([p.data.ravel() for p in model.parameters()]))
        assert scheduler.get_last_lr()[0] == scheduler.rates(1)[0]
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("patience, expected", [(0, 0.01), (1, 0.1)])
def test_a_plateau_that_begins_with_nan_has_waited_once(patience, expected):
    optimizer = SGD(groups())
    ReduceLROnPlateau(optimizer, factor=0.1, patience=patience).step(float("nan"))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_no_steps_may_be_counted_but_not_fewer():
    optimizer = SGD(groups())
    scheduler = StepLR(optimizer, 1)
    scheduler.advance(0)
    assert scheduler.last_epoch == 0 and optimizer.param_groups[0]["lr"] == 0.1
    with pytest.raises(ValueError, match="n must be"):
        scheduler.advance(-1)


def test_a_range_test_needs_two_rates_and_a_limit_above_one():
    assert len(range_test(start_lr=1e-4, end_lr=1e-3, steps=2).rates) == 2
    with pytest.raises(ValueError, match="diverge must be more than 1"):
        range_test(diverge=1)
