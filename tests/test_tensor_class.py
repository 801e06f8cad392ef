"""The Tensor is read in its class: its methods, their arguments, their docstrings; and a node is filled in one place."""
import ast
import inspect
import threading
from pathlib import Path

import numpy as np
import pytest

import deepnotes
from deepnotes import autograd
from deepnotes.autograd import tape
from deepnotes.autograd.tape import OPS, Tensor, observing

LIBRARY = Path(deepnotes.__file__).parent
CLASS = next(node for node in ast.parse(inspect.getsource(tape)).body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
WRITTEN = {node.name: node for node in CLASS.body if isinstance(node, ast.FunctionDef)}
OTHER_NAMES = {"abs": "absolute", "pow": "power", "clamp": "clip", "amax": "max", "amin": "min", "view": "reshape"}


def named(method):
    "The operation that a method of the class asks for by name."
    found = [node.slice.value for node in ast.walk(WRITTEN[method])
             if isinstance(node, ast.Subscript) and getattr(node.value, "id", None) == "OPS"]
    return found[0] if found else None


OPERATIONS = [name for name in WRITTEN if named(name) and not name.startswith("__")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_method_is_the_operation_of_its_name_with_its_arguments(name):
    assert named(name) == {"T": "permute"}.get(name, OTHER_NAMES.get(name, name))
    method = getattr(Tensor, name)
    if isinstance(method, property):
        return
    mine, of_the_function = inspect.signature(method), inspect.signature(OPS[named(name)])
    for one, other in zip(list(mine.parameters.values())[1:], list(of_the_function.parameters.values())[1:], strict=True):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
    assert inspect.getdoc(method).endswith(f"See `deepnotes.autograd.{named(name)}`.")
    assert getattr(autograd, named(name)) is OPS[named(name)]


def test_operators_and_methods_that_were_there_are_written_in_the_class():
    operators = [f"__{side}{name}__" for name in ("add", "sub", "mul", "truediv", "pow", "matmul") for side in ("", "r", "i")]
    comparisons = [f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge")]
    methods = """exp log log1p expm1 sqrt square abs sin cos tanh sigmoid erf sign floor reciprocal maximum minimum clip astype sum mean
        var std max min argmax argmin prod logsumexp softmax log_softmax cumsum reshape permute transpose squeeze unsqueeze broadcast_to
        expand flip gather split matmul isnan isinf isfinite pow clamp amax amin view T""".split()
    for name in [*operators, *comparisons, *methods, "__neg__", "__abs__", "__getitem__", "__setitem__"]:
        assert name in WRITTEN, name


def test_a_node_is_filled_by_its_constructor_alone():
    fields = set(tape.Node.__slots__)
    filled = []
    for file in LIBRARY.rglob("*.py"):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name not in ("release",):
                filled += [(file.name, function.name, target.attr) for node in ast.walk(function) if isinstance(node, ast.Assign)
                           for target in ast.walk(ast.Tuple(node.targets)) if isinstance(target, ast.Attribute)
                           and target.attr in fields - {"_hooks", "_name"} and getattr(target.value, "id", "") in ("self", "node")
                           and file.parent.name == "autograd"]
    assert {(file, function) for file, function, _ in filled} == {("tape.py", "__init__")}
    assert {field for *_, field in filled} == fields - {"_hooks", "_name"}


def test_methods_take_both_names_of_an_axis():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert x.sum(dim=1, keepdim=True).shape == x.sum(axis=1, keepdims=True).shape == (2, 1)
    with pytest.raises(TypeError, match="two names for one argument"):
        x.sum(dim=1, axis=1)


def test_observers_are_asked_in_all_threads_and_leave_nothing_behind():
    t, first, second = Tensor(np.ones(3)), [], []
    with observing(lambda array: first.append(len(array)) or array):
        with observing(lambda array: second.append(len(array)) or array) as nothing:
            assert nothing is None
            thread = threading.Thread(target=t.numpy)
            thread.start()
            thread.join()
        assert t.data is t.numpy()
    assert t.data is t._data
    assert (first, second) == ([3, 3], [3])


def test_an_observer_leaves_after_an_error_too():
    t = Tensor(np.ones(3))
    with pytest.raises(ZeroDivisionError), observing(lambda array: 1 / 0):
        t.numpy()
    assert t.numpy() is t._data
