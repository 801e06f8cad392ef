"""The Tensor is read in its class: its methods, their arguments, their docstrings; and a node is filled in one place."""
import ast
import inspect
import threading
from pathlib import Path

import numpy as np
import pytest

import deepnotes
from deepnotes import activations, autograd
from deepnotes.autograd import tape
from deepnotes.autograd.tape import OPS, Tensor, observing

LIBRARY = Path(deepnotes.__file__).parent
CLASS = next(node for node in ast.parse(inspect.getsource(tape)).body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
WRITTEN = {node.name: node for part in CLASS.body for node in (part.body if isinstance(part, ast.If) else [part])
           if isinstance(node, ast.FunctionDef)}
OTHER_NAMES = {"abs": "absolute", "pow": "power", "clamp": "clip", "amax": "max", "amin": "min", "view": "reshape", "T": "permute",
               "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative", "tile": "repeat", "ravel": "flatten",
               "t": "permute", "contiguous": "clone", **{f"a{name}": f"arc{name}" for name in "sin cos tan tan2 sinh cosh tanh".split()},
               **dict.fromkeys(("float", "double", "long", "int", "bool"), "astype")}
ANOTHER_FORM = {"t", "ravel", "contiguous", "where", "float", "double", "long", "int", "bool"}  # what they do is tested by what they give


def named(method):
    "The operation that a method of the class asks for by name."
    found = [node.slice.value for node in ast.walk(WRITTEN[method])
             if isinstance(node, ast.Subscript) and getattr(node.value, "id", None) == "OPS"]
    return found[0] if found else None


OPERATIONS = [name for name in WRITTEN if named(name) and not name.startswith("__")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_method_is_the_operation_of_its_name_with_its_arguments(name):
    assert named(name) == OTHER_NAMES.get(name, name)
    assert getattr(autograd, named(name)) is OPS[named(name)]
    method = getattr(Tensor, name)
    if isinstance(method, property) or name in ANOTHER_FORM:
        return
    mine, of_the_function = inspect.signature(method), inspect.signature(OPS[named(name)])
    for one, other in zip(list(mine.parameters.values())[1:], list(of_the_function.parameters.values())[1:], strict=True):
        assert (one.name, one.kind, one.default) == (other.name, other.kind, other.default)
    assert inspect.getdoc(method).endswith(f"See `deepnotes.autograd.{named(name)}`.")


def test_nothing_is_put_on_the_class_from_outside():
    assert set(vars(Tensor)) - set(WRITTEN) <= {
        "__module__", "__qualname__", "__doc__", "__annotations__", "__slots__", "__array_priority__", "__hash__",
        "_data", "_node", "_version", "grad", "_hooks", "__weakref__", "shape", "dtype", "ndim", "size"}
    for name in WRITTEN:
        code = inspect.unwrap(inspect.getattr_static(Tensor, name).fget if isinstance(vars(Tensor)[name], property)
                              else vars(Tensor)[name]).__code__
        assert code.co_filename == tape.__file__, name


def test_methods_of_another_form_give_what_their_names_say():
    x = Tensor([[0.4, -1.0], [2.0, 3.0]], requires_grad=True)
    assert x.t().tolist() == x.T.tolist() and x.ravel().tolist() == x.reshape(-1).tolist()
    assert x.contiguous() is x
    turned = x.t().contiguous()
    assert turned.numpy().flags.c_contiguous and turned.tolist() == x.T.tolist() and turned.requires_grad
    assert [str(getattr(x, name)().dtype) for name in ("float", "double", "long", "int", "bool")] == [
        "float32", "float64", "int64", "int32", "bool"]
    assert x.long().tolist() == [[0, -1], [2, 3]] and x.bool().tolist() == [[True, True], [True, True]]
    assert x.where(x > 0, Tensor([7.0, 8.0])).tolist() == [[pytest.approx(0.4), 8], [2, 3]]
    assert np.logical_and(x, [True, False]).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "bitwise_and", "bitwise_or", "bitwise_xor"])
def test_operators_ask_for_their_operation_from_both_sides(name):
    sign = {"floor_divide": "floordiv", "remainder": "mod"}.get(name, name.removeprefix("bitwise_"))
    x, operation = Tensor([5, 12, -7]), getattr(autograd, name)
    assert getattr(x, f"__{sign}__")(3).tolist() == operation(x, 3).tolist() == getattr(np, name)([5, 12, -7], 3).tolist()
    assert getattr(x, f"__r{sign}__")(3).tolist() == operation(3, x).tolist() == getattr(np, name)(3, [5, 12, -7]).tolist()


def test_relu_is_one_operation_under_all_its_names():
    x = Tensor([-1.0, 0.0, 2.0, float("nan")], requires_grad=True)
    for relu in (Tensor.relu, autograd.relu, activations.relu):
        out = relu(x)
        assert out._node.rules is autograd.relu.op
        (slopes,) = autograd.grad(lambda x, relu=relu: relu(x).sum(), (0,))(x)
        np.testing.assert_array_equal(slopes.numpy(), [0, 0, 1, 1])
    assert activations.UNITS["relu"].op is autograd.relu.op


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
