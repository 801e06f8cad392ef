"""What a process pays once: which modules the first step of training brings along, and what stands in for slow ones."""

import dis
import inspect
import subprocess
import sys
import types

import numpy as np
import pytest
from book_helpers import ROOT

import deepnotes as dn
from deepnotes import activations, autograd, kernels, layers, outputs
from deepnotes._doors import as_array, is_masked, is_missing
from deepnotes.autograd.elementwise import _names_of, _signature
from deepnotes.compiler.cache import globals_loaded

FIT = """
import sys
import numpy as np
import deepnotes as dn
rng = np.random.default_rng(0)
x, y = rng.normal(size=(100, 4)).astype("f4"), rng.integers(0, 3, 100)
model = dn.MLP(4, [8], 3, rng=0)
trainer = dn.Trainer(model, loss="cross_entropy", optimizer=dn.optimizers.Adam(model.parameters(), lr=1e-3), seed=0)
trainer.fit(x, y, epochs=2, batch_size=32, progress=False)
print(*sorted(sys.modules))
"""


@pytest.fixture(scope="module")
def brought_along():
    "The modules of a process that has trained, after another has left all machine code in the cache."
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", FIT], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["numba", "numpy.ma", "scipy", "matplotlib", "sklearn", "pandas", "html", "statistics", "decimal",
                                  "fractions", "pkgutil", "asyncio", "unittest", "concurrent.futures", "email", "xml"])
def test_the_first_step_brings_along_only_what_it_needs(brought_along, name):
    if name in {"html", "pkgutil", "decimal"} & STARTED:
        pytest.skip(f"Python starts with {name} here")
    assert name not in brought_along


STARTED = set(subprocess.run([sys.executable, "-c", "import sys, numpy.random\ntry:\n import llvmlite.binding\nexcept ImportError:\n pass\n"
                              "print(*sys.modules)"], capture_output=True, text=True, check=True).stdout.split())


def test_a_compiler_is_no_part_of_the_package_s_import():
    ask = "import sys, deepnotes as dn\ndn.Trainer, dn.optimizers\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numba", "llvmlite", "scipy", "matplotlib"} & set(done.stdout.split())


def codes_of(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def functions():
    for module in (dn.Trainer.fit.__globals__, vars(activations), vars(autograd), vars(kernels), vars(layers), vars(outputs)):
        for value in module.values():
            for part in [value, *vars(value).values()] if isinstance(value, type) else [value]:
                if isinstance(part, types.FunctionType):
                    yield part


def test_globals_read_from_the_bytes_are_those_that_dis_finds():
    many = {}
    exec("def long(): return [" + ", ".join(f"a{i}, a{i}(len)" for i in range(600)) + "]", many)
    codes = {code for function in [*functions(), many["long"]] for code in codes_of(function.__code__)}
    assert len(codes) > 300
    for code in codes:
        assert globals_loaded(code) == {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}, code


class Bound:
    def method(self, x, out):
        return x * out

    def __call__(self, g, x):
        return g * x


def gathers(*operands):
    return operands[0]


def keyword(x, *, out=2):
    return x * out


@pytest.mark.parametrize("formula", [lambda x: x, lambda g, x, y, out: g, lambda x, y=2: x, keyword, Bound().method, Bound(), gathers,
                                     kernels.exp, kernels.where])
def test_names_of_parameters_are_those_that_inspect_finds(formula):
    assert _names_of(formula) == list(inspect.signature(formula).parameters)


def test_a_signature_of_its_own_counts():
    def formula(*operands):
        return operands[0]
    formula.__signature__ = inspect.signature(lambda x, out: x)
    assert _names_of(formula) == ["x", "out"]


def test_masks_are_seen_once_somebody_makes_one():
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    assert is_masked(masked) and is_masked(np.ma.masked) and is_missing(np.ma.masked) and not is_masked(np.ones(2))
    with pytest.raises(ValueError, match="masked entries"):
        as_array("f", "x", masked, "")
    with pytest.raises(ValueError, match="masked"):
        as_array("f", "x", [masked, np.ones(2)], "")
    assert as_array("f", "x", np.ma.masked_array([1.0, 2.0]), "").tolist() == [1, 2]


@pytest.mark.parametrize("activation", [layers.ReLU, layers.Tanh, lambda: layers.GELU(), layers.LeakyReLU])
def test_a_layer_s_class_or_what_makes_one_is_an_activation(activation):
    assert type(dn.MLP(2, [3], 1, activation=activation)[1]) is type(activation())


@pytest.mark.parametrize("wrong", [int, object, layers.ReLU(), lambda x: x, layers.Linear, type("NeedsWidth", (layers.Module,), {
    "__init__": lambda self, width: None})])
def test_what_makes_no_layer_is_refused(wrong):
    with pytest.raises(TypeError, match="MLP: activation must be a name, or a class or function that makes a Module"):
        dn.MLP(2, [3], 1, activation=wrong)


@pytest.mark.parametrize("formula", [lambda x: x, lambda g, x, y, out: g, lambda x, y=2: x, lambda x, /, y: x, keyword, Bound().method,
                                     Bound(), gathers, kernels.exp, kernels.where])
def test_the_signature_of_a_formula_is_that_which_inspect_finds(formula):
    assert _signature(formula) == inspect.signature(formula)
