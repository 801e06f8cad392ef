"""Code that the library writes has lines: in tracebacks, for debuggers, for `inspect`."""

import ast
import inspect
import linecache
import traceback
from pathlib import Path

import numpy as np
import pytest

import deepnotes
from deepnotes import autograd as ag
from deepnotes import kernels
from deepnotes.autograd import Tensor
from deepnotes.capture import fuse
from deepnotes.compiler.written import as_code, written

LIBRARY = Path(deepnotes.__file__).parent


def test_a_traceback_shows_the_line_that_failed():
    half = written("def half(x):\n    y = x / 2\n    return y.shape\n", "half")
    with pytest.raises(AttributeError) as failed:
        half(3.0)
    said = "".join(traceback.format_exception(failed.value))
    assert 'File "<deepnotes: half ' in said and "    return y.shape" in said
    assert inspect.getsource(half) == "def half(x):\n    y = x / 2\n    return y.shape\n"
    linecache.checkcache()
    assert inspect.getsource(half).startswith("def half")  # nobody looks for such a file on the disk


def test_two_functions_of_one_name_keep_their_own_lines():
    one, other = (written(f"def f(x):\n    return x + {n}\n", "f") for n in (1, 2))
    assert "x + 1" in inspect.getsource(one) and "x + 2" in inspect.getsource(other)
    assert as_code("x = 1\n", "f").co_filename == as_code("x = 1\n", "f").co_filename


def test_a_derivative_that_fails_shows_where_it_was_called():
    def slope(x):
        raise ZeroDivisionError("a slope of a test")

    with kernels.backend("numpy"):
        steep = ag.elementwise_op(lambda x: x * 2, slope, name="steep")
        x = Tensor([1.0], requires_grad=True)
        with pytest.raises(ZeroDivisionError) as failed:
            steep(x).sum().backward()
    assert "return g * derivative(x)" in "".join(traceback.format_exception(failed.value))


def test_the_words_of_the_vocabulary_have_lines():
    assert "return lambda x: dispatch(name, function, (x,))" in inspect.getsource(kernels.exp)
    with pytest.raises(TypeError) as failed:
        kernels.exp("word")
    assert failed.traceback[1].name == "exp"


def test_the_loops_of_fused_launches_have_lines(monkeypatch):
    seen = []
    monkeypatch.setattr(fuse, "_loop", lambda build, kinds, key: seen.append(build) or key)
    a, b, c = (np.ones(4, "float32") for _ in range(3))
    group = fuse.Group(kernels.core.Launch(kernels.exp.kernel, b, (a,)))
    group.add(kernels.core.Launch(kernels.add, c, (b, 1.0)))
    group.needed = {1}
    loop = fuse.Fused(group)
    loop.calls()
    plain = type("machine", (), {"retype": staticmethod(lambda formula, dtype, integers: lambda *x: x)})
    text = inspect.getsource(seen[0](plain))
    assert text == loop.text and "for i in range" in text


def test_nothing_is_executed_that_has_no_lines():
    found = []
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "exec":
                found.append((path.relative_to(LIBRARY).as_posix(), ast.unparse(node.args[0])))
    assert sorted(found) == [("autograd/elementwise.py", "_product_of(', '.join(wants))"),
                             ("compiler/written.py", "as_code(text, name)")]
