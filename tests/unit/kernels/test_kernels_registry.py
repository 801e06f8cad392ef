"""Every kernel in the registry: its two forms agree, and it writes what it says it writes, no more and no less.

A kernel with a formula is found, and fed, by itself. Any other needs an entry in `EXAMPLES`: without one its test fails.
"""
import importlib
import pkgutil
import warnings

import numpy as np
import pytest

import deepnotes
from deepnotes import kernels
from deepnotes.kernels.core import registered
from deepnotes.kernels.gather import Refusal

FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
EXTRAS = {"plotting", "estimators", "exchange", "compiler"}      # need other packages, or are asked by the rest; no kernels


def home(kernel):
    "The module whose author wrote the kernel, to leave out those that other tests make."
    written = getattr(kernel, "rule", None) or kernel.formula or kernel.reference
    return getattr(written, "__globals__", {}).get("derivative", written).__module__


def all_kernels():
    "Every kernel of the library: read before a test runs, for a test may make kernels from the library's own formulas."
    for module in pkgutil.walk_packages(deepnotes.__path__, "deepnotes."):
        if module.name.split(".")[1] not in EXTRAS:
            importlib.import_module(module.name)
    ours = [kernel for kernel in registered if (home(kernel) or "").startswith("deepnotes.")]
    return sorted(ours, key=lambda kernel: kernel.name)


OURS = all_kernels()
ALL = {kernel.name: kernel for kernel in OURS}


# What a kernel is launched on: lists of (out, operands), the same arrays at each call.

COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
LOGIC = {"logical_and", "logical_or", "logical_not"}
BITS = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}
TESTS = {"isnan", "isinf", "isfinite"}
CONDITION = {"where", "where_backward1", "where_backward2"}      # take the condition where `where` has it
FINITE = {"poisson_nll_loss"}           # exp(x) - y x: the loop rounds once, so inf - inf is an infinity there, not nan
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]


def numbers(rng, dtype, shape, special=True):
    x = np.asarray(2 * rng.standard_normal(shape)).astype(dtype)
    if special and x.size > 3:
        x.flat[rng.choice(x.size, x.size // 3, replace=False)] = rng.choice(SPECIAL, x.size // 3)
    return x


def elementwise_examples(kernel, rng, dtype):
    arity = kernel.formula.__code__.co_argcount
    boolean = kernel.name in COMPARISONS | LOGIC | TESTS
    for size, special in ((31, True), (7, False), (1, False), (0, False)):      # the loop of the first serves the others
        operands = [numbers(rng, dtype, size, special and kernel.name not in FINITE) for _ in range(arity)]
        if kernel.name in LOGIC:
            operands = [x > 0 for x in operands]
        if kernel.name in BITS:
            operands = [rng.integers(-9, 9, size) for _ in operands]
        if kernel.name in CONDITION:
            at = 0 if kernel.name == "where" else 1
            operands[at] = operands[at] > 0
        yield np.zeros(size, bool if boolean else np.int64 if kernel.name in BITS else dtype), operands


def examples(kernel, dtype):
    rng = np.random.default_rng(sum(map(ord, kernel.name)))
    if kernel.formula is not None:
        return list(elementwise_examples(kernel, rng, dtype))
    if kernel.name not in EXAMPLES and hasattr(kernel, "rule"):     # an optimizer's step, of which the learning rate is given
        return list(stepping(kernel.states, kernel.counts, 0.1)(rng, dtype))
    assert kernel.name in EXAMPLES, (
        f"the kernel {kernel.name} has no example in tests/unit/kernels/test_kernels_registry.py: add launches of it to EXAMPLES")
    return list(EXAMPLES[kernel.name](rng, dtype))


def tables(rng, dtype, special=True, shapes=((5, 7), (1, 1), (3, 1), (40, 33), (0, 3))):
    for shape in shapes:
        yield numbers(rng, dtype, shape, special and 0 not in shape)


def rows(arrays, *rest):
    "Launches of a kernel whose output has the shape of its operands."
    def launches(rng, dtype):
        for special in (False, True):
            for x in tables(rng, dtype, special):
                yield np.zeros(x.shape, dtype), [x, *[numbers(rng, dtype, x.shape, special) for _ in range(arrays - 1)], *rest]
    return launches


def running_back(rng, dtype):
    "What cumprod and logcumsumexp send back: g, x and, for the latter, its result."
    for x in tables(rng, dtype, False):
        yield np.zeros(x.shape, dtype), [numbers(rng, dtype, x.shape, False), x, 1]


def running_logs_back(rng, dtype):
    for x in tables(rng, dtype, False):
        y = np.logaddexp.accumulate(x, axis=1)
        yield np.zeros(x.shape, dtype), [numbers(rng, dtype, x.shape, False), x, y, 1]


def sorting(rng, dtype):
    for x in tables(rng, dtype):
        for descending in (False, True):
            yield np.zeros(x.shape, np.int64), [x, 1, descending]


def reductions(out_dtype=None, empty=True, axes=((0,), (1,), (0, 1), None), special=True):
    def launches(rng, dtype):
        for axis in axes:
            for x in tables(rng, dtype, special):
                if empty or x.size:
                    kept = () if axis is None else tuple(n for i, n in enumerate(x.shape) if i not in np.atleast_1d(axis))
                    yield np.zeros(kept, out_dtype or dtype), [x, axis]
    return launches


def normalizing(*extra):
    "Rows and what is written beside: `extra` arrays as long as there are rows."
    def launches(rng, dtype):
        for x in tables(rng, dtype, special=False, shapes=((5, 7), (3, 1), (4, 600))):
            yield np.zeros(x.shape, dtype), [x, *[np.zeros(len(x), dtype) for _ in extra], 1e-5]
    return launches


def normalizing_back(rng, dtype):
    for x in tables(rng, dtype, special=False, shapes=((5, 7), (3, 1), (4, 600))):
        yield np.zeros(x.shape, dtype), [numbers(rng, dtype, x.shape, False), x, np.abs(numbers(rng, dtype, len(x), False))]


def columns(rng, dtype):
    for x in tables(rng, dtype, special=False, shapes=((7, 5), (1, 3), (600, 4))):
        yield np.zeros(x.shape, dtype), [x, *[np.zeros(x.shape[1], dtype) for _ in range(3)], 1e-5]


def columns_back(rng, dtype):
    for x in tables(rng, dtype, special=False, shapes=((7, 5), (1, 3), (600, 4))):
        rstd = np.abs(numbers(rng, dtype, x.shape[1], False))
        yield np.zeros(x.shape, dtype), [numbers(rng, dtype, x.shape, False), x, rstd, np.zeros((2, x.shape[1]), dtype)]


def products(rng, dtype):
    for n, k, m in ((3, 5, 7), (1, 1, 1), (0, 3, 2), (2, 0, 3), (33, 17, 9)):
        yield np.zeros((n, m), dtype), [numbers(rng, dtype, (n, k), False), numbers(rng, dtype, (k, m), False)]
    yield np.zeros((2, 3, 4), dtype), [numbers(rng, dtype, (2, 3, 5), False), numbers(rng, dtype, (2, 5, 4), False)]


def places(rng, count, size):
    "Some indices, from both ends, with repeats."
    return rng.integers(-size, size, count)


def taking(rng, dtype):
    x = numbers(rng, dtype, (6, 3))
    for count in (11, 1, 0):
        yield np.zeros((count, 3), dtype), [x, places(rng, count, 6), 0]
        yield np.zeros((6, count), dtype), [x, places(rng, count, 3), 1]


def scattering(rng, dtype):
    for count in (21, 3, 1, 0):
        for width in (3, 40):
            yield numbers(rng, dtype, (6, width), False), [numbers(rng, dtype, (count, width), False), places(rng, count, 6), 0]
        yield numbers(rng, dtype, (6, 3), False), [numbers(rng, dtype, (6, count), False), places(rng, count, 3), 1]


def taking_along(rng, dtype):
    for axis, shape in ((1, (4, 9)), (0, (9, 5)), (1, (4, 1)), (1, (4, 0))):
        x = numbers(rng, dtype, (4, 5))
        yield np.zeros(shape, dtype), [x, places(rng, shape, x.shape[axis]), axis]


def putting_along(rng, dtype):
    for axis, size, shape in ((1, 5, (4, 19)), (1, 90, (4, 19)), (1, 5, (4, 3)), (0, 5, (9, 5)), (1, 5, (4, 0))):
        out = numbers(rng, dtype, (4, size), False)
        yield out, [numbers(rng, dtype, shape, False), places(rng, shape, out.shape[axis]), axis]


KEYS = [np.array([3, 0, 3, -1]), (slice(1, 5), np.array([0, 1, 1, 0])), np.array([True, False, True, False, False, True]),
        (slice(0, 6, 2), 1)]


def getting(rng, dtype):
    x = numbers(rng, dtype, (6, 2))
    for key in KEYS:
        yield np.zeros(x[key].shape, dtype), [x, key]


def putting(rng, dtype):
    for key in KEYS:
        out = numbers(rng, dtype, (6, 2), False)
        yield out, [numbers(rng, dtype, out[key].shape, False), key]


def putting_once(rng, dtype):
    for key in KEYS[2:]:
        out = numbers(rng, dtype, (6, 2))
        yield out, [numbers(rng, dtype, out[key].shape), key]


REFUSAL = Refusal(ValueError, "{value} is wrong")


def checking(*allowed):
    def launches(rng, dtype):
        for size in (7, 1, 0):
            yield np.zeros(1, np.int64), [rng.choice(allowed, size).astype(dtype), *allowed, REFUSAL]
    return launches


def labelled(rng, dtype, ignored=-100):
    for n, classes in ((7, 5), (1, 2), (4, 40), (70, 3)):
        label = rng.integers(0, classes, n)
        label[: n // 3] = ignored
        for weight in (np.ones(1, dtype), np.abs(numbers(rng, dtype, classes, False)) + dtype.type(0.1)):
            yield numbers(rng, dtype, (n, classes), False), label, weight


def reduced(n, dtype):
    return [("none", np.zeros(n, dtype)), ("sum", np.zeros(1, dtype)), ("mean", np.zeros(1, dtype))]


def cross_entropies(rng, dtype):
    for z, label, weight in labelled(rng, dtype):
        for reduction, out in reduced(len(z), dtype):
            for smoothing in (0.0, 0.1):
                scratch = [np.zeros(len(z), dtype) for _ in range(3)]
                yield out.copy(), [z, label, weight, *scratch, np.zeros(1, dtype), -100, smoothing, reduction]


def cross_entropies_back(rng, dtype):
    for z, label, weight in labelled(rng, dtype):
        own = np.where(label == -100, 0, weight[np.maximum(label, 0)] if weight.size > 1 else weight[0]).astype(dtype)
        top = z.max(axis=1)
        total = np.exp(z - top[:, None]).sum(axis=1)
        for g in (np.ones(1, dtype), numbers(rng, dtype, len(z), False)):
            for smoothing in (0.0, 0.1):
                scale = np.full(1, 0.25, dtype)
                yield np.zeros(z.shape, dtype), [g, z, label, weight, top, total, own, scale, -100, smoothing]


def negative_likelihoods(rng, dtype):
    for x, label, weight in labelled(rng, dtype):
        for reduction, out in reduced(len(x), dtype):
            yield out, [x, label, weight, np.zeros(len(x), dtype), np.zeros(1, dtype), -100, reduction]


def negative_likelihoods_back(rng, dtype):
    for x, label, weight in labelled(rng, dtype):
        own = np.where(label == -100, 0, weight[np.maximum(label, 0)] if weight.size > 1 else weight[0]).astype(dtype)
        for g in (np.ones(1, dtype), numbers(rng, dtype, len(x), False)):
            yield np.zeros(x.shape, dtype), [g, label, own, np.full(1, 0.25, dtype), -100]


def counting(target, weighted=False):
    "Counts of right answers, added to what is there."
    def launches(rng, dtype):
        for shape in ((9, 4), (1, 2), (0, 3), (5, 1)):
            z, y = numbers(rng, dtype, shape), target(rng, dtype, shape)
            if target is answers and not weighted:
                z, y = z.reshape(-1), y.reshape(-1)
            more = [np.abs(numbers(rng, dtype, len(z), False))] if weighted else []
            yield np.full(1, 3, np.float64 if weighted else np.int64), [z, y, *more]
    return launches


def classes(rng, dtype, shape):
    return rng.integers(0, shape[1], shape[0])


def shares(rng, dtype, shape):
    return rng.random(shape).astype(dtype)


def answers(rng, dtype, shape):
    return rng.integers(0, 2, shape).astype(dtype)


def stepping(states, counts, *hyper):
    "Steps of an optimizer: the numbers in one array and one by one, at the first step and at a later one."
    def launches(rng, dtype):
        for size in (7, 1, 0):
            for step in (0.0, 4.0):
                p, g = numbers(rng, dtype, size, False), numbers(rng, dtype, size, False)
                memory = [np.abs(numbers(rng, dtype, size, False)) * dtype.type(step > 0) for _ in range(states)]
                counter = [np.full(1, step)] if counts else []
                yield p, [g, *memory, *counter, *hyper]
    return launches


def drawing(rng, dtype):
    for size in (7, 1, 0):
        yield np.zeros(size, dtype), [kernels.random_state(3)]


WINDOW = (2, 3, 1, 1, 1, 0, 1, 1)       # kernel, stride, padding, dilation: down and along


def windows(rng, dtype):
    x = numbers(rng, dtype, (2, 3, 4, 5))
    for fill in (0.0, -np.inf):
        yield np.zeros((18, 2 * 5 * 3), dtype), [x, WINDOW, fill]


def windows_back(rng, dtype):
    yield np.zeros((2, 3, 4, 5), dtype), [numbers(rng, dtype, (18, 2 * 5 * 3), False), WINDOW]


def squares(rng, dtype):
    for size in (7, 1, 0, 3000):
        yield np.full(1, 2.0), [numbers(rng, dtype, size, False)]


def summing_to(rng, dtype):
    x = numbers(rng, dtype, (5, 7))
    for shape in ((5, 7), (7,), (1, 7), (5, 1), (1, 1), ()):
        yield np.zeros(shape, dtype), [x]


def copying(rng, dtype):
    for shape in ((5, 7), (7,), (1,)):
        yield np.zeros((5, 7), dtype), [numbers(rng, dtype, shape)]
    yield np.zeros((5, 7), dtype), [2.5]


EXAMPLES = {
    "softmax": rows(1, -1), "softmax_backward": rows(2, -1), "log_softmax": rows(1, 0), "log_softmax_backward": rows(2, 1),
    "cumsum": rows(1, 1), "copy": copying,
    "cumprod": rows(1, 1), "cumprod_backward": running_back, "logcumsumexp": rows(1, 1), "logcumsumexp_backward": running_logs_back,
    "argsort": sorting, "all": reductions(bool), "any": reductions(bool),
    "sum": reductions(), "mean": reductions(), "prod": reductions(), "max": reductions(empty=False), "min": reductions(empty=False),
    "logsumexp": reductions(),
    "argmax": reductions(np.int64, False, (0, 1)), "argmin": reductions(np.int64, False, (0, 1)),
    "sum_to": summing_to, "add_squares": squares,
    "normalize": normalizing("rstd"), "normalize_root": normalizing("rstd"),
    "normalize_backward": normalizing_back, "normalize_root_backward": normalizing_back,
    "normalize_columns": columns, "normalize_columns_backward": columns_back,
    "matmul": products,
    "take": taking, "scatter_add": scattering, "take_along_axis": taking_along, "put_along_axis_add": putting_along,
    "index_get": getting, "index_add": putting, "index_put": putting_once,
    "within": checking(-1.0, 2.0), "either": checking(0.0, 1.0),
    "cross_entropy": cross_entropies, "cross_entropy_backward": cross_entropies_back,
    "nll_loss": negative_likelihoods, "nll_loss_backward": negative_likelihoods_back,
    "count_right_classes": counting(classes), "count_right_likeliest": counting(shares), "count_right_answers": counting(answers),
    "weigh_right_classes": counting(classes, True), "weigh_right_likeliest": counting(shares, True),
    "weigh_right_answers": counting(answers, True),
    "descent": stepping(0, False, 0.1, 0.01), "sgd": stepping(1, False, 0.1, 0.9, 0.01, 1.0),
    "sgd_dampened": stepping(1, True, 0.1, 0.9, 0.01, 0.0, 0.5), "adagrad": stepping(1, True, 0.1, 0.01),
    "rmsprop": stepping(2, False, 0.01, 0.9, 1e-8, 0.01, 0.5), "rmsprop_centered": stepping(3, False, 0.01, 0.9, 1e-8, 0.01, 0.5),
    "adam": stepping(2, True, 0.01), "amsgrad": stepping(3, True, np.array([0.01, 0.9, 0.99, 1e-8, 0.1, 1.0])),
    "uniform": drawing, "unfold": windows, "fold": windows_back,
}


# What is asked of each.

def launched(form, kernel, out, operands):
    "What a launch on copies leaves behind: out, and all operands."
    copies = [x.copy() if isinstance(x, np.ndarray) else x for x in operands]
    target = out.copy()
    with kernels.backend(form), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)         # numpy's, of infinities that were put there
        kernels.launch(kernel, target, *copies)
    return target, copies


def garbage(out):
    "The same shape, full of what no result should be made of."
    return np.full_like(out, {"f": np.nan, "i": -987654321, "u": 3, "b": True}[out.dtype.kind])


def agree(one, other, dtype, about):
    if other.dtype.kind != "f":
        np.testing.assert_array_equal(one, other, err_msg=about)
        return
    bound = 64 * np.finfo(dtype).eps
    np.testing.assert_allclose(one, other, rtol=bound, atol=bound, err_msg=about)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ALL)
def test_the_two_forms_of_each_kernel_agree_and_write_what_they_declare(name, dtype):
    kernel = ALL[name]
    changed, reads_out = set(), False
    for number, (out, operands) in enumerate(examples(kernel, dtype)):
        results = {}
        for form in kernels.BACKENDS:
            about = f"{name} on {form}, example {number}: "
            results[form] = target, after = launched(form, kernel, out, operands)
            for i, (x, y) in enumerate(zip(operands, after, strict=True)):
                if isinstance(x, np.ndarray) and not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                    assert i in kernel.writes, f"{about}operand {i} was written, which `writes` does not name"
                    changed.add(i)
            again, _ = launched(form, kernel, garbage(out), operands)
            same = np.array_equal(target, again, equal_nan=out.dtype.kind == "f")
            assert same or not kernel.fills_out, f"{about}the result depends on what stood in out, but `fills_out` is True"
            reads_out |= not same
        (loop, loop_operands), (reference, operands_after) = results["numba"], results["numpy"]
        agree(loop, reference, dtype, f"{name}, example {number}: out")
        for i in kernel.writes:
            agree(loop_operands[i], operands_after[i], dtype, f"{name}, example {number}: operand {i}")
    assert changed == set(kernel.writes), f"{name}: `writes` is {kernel.writes}, but written were {sorted(changed)}"
    assert reads_out is not kernel.fills_out, f"{name}: no example reads out or leaves a part of it, yet `fills_out` is False"


def test_the_names_are_unique_and_each_example_is_of_a_kernel():
    assert len(ALL) == len(OURS) > 200
    assert not set(EXAMPLES) - set(ALL)


def test_a_kernel_without_examples_is_told_where_they_go():
    kernel = kernels.Kernel("brand_new", lambda out: None)
    with pytest.raises(AssertionError, match="brand_new has no example"):
        examples(kernel, FLOATS[0])
