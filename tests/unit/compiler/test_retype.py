"""Numbers of a formula get the type of the data: on its syntax tree, which is believed only if it is what runs."""

import ast
import importlib.util
import linecache
import warnings

import numpy as np
import pytest

from deepnotes.compiler.cache import fingerprint
from deepnotes.compiler.retype import retype, syntax_of, with_numbers
from deepnotes.compiler.written import written
from deepnotes.kernels import backend, elementwise, launch

SINGLE = np.dtype(np.float32)


def numbers(function, integers=True):
    """What the names stand for that numbers of a formula become."""
    return list(with_numbers(function, lambda value: np.float32(value) if type(value) in (float, int) and integers else value)[1].values())


def closing_over(a, b=2.0):
    return lambda x, y=4.0: a * x - 0.5 * b


first, second, third = lambda x: x + 1.0, lambda x: x + 2.0, lambda x: (lambda y: y * 3.0)(x)


def marked(function):
    return function


@marked
def of_several_lines(x):
    """Words keep their 3.0."""
    if x > 0.25:
        x = -1.5 * x
    return x ** 2 + 2 * x ** -1


class Room:
    def method(self, x):
        return x * 2.5


@pytest.mark.parametrize(("function", "found"), [
    (first, [1.0]), (second, [2.0]), (third, [3.0]), (closing_over(1.0), [0.5]), (of_several_lines, [0.25, -1.5, 2]), (Room.method, [2.5]),
    (lambda x: np.sqrt(x) * 7.0, [7.0]), (lambda x: (1 / 3) * x + (2 - 5) * 2.0, [1 / 3, -6.0]), (lambda x: -0.0 + x, [-0.0]),
    (lambda x: x is None or x is True or "3.0", [])])
def test_each_number_is_found_where_it_was_written(function, found):
    assert [str(number) for number in numbers(function)] == [str(np.float32(number)) for number in found]


def test_what_runs_has_numbers_of_the_datas_type_and_gives_what_was_written():
    for function in (first, second, third, closing_over(1.0), of_several_lines):
        copied = retype(function, SINGLE)
        assert copied(np.float32(3)).dtype == np.float32
        assert copied(np.float32(3)) == np.float32(function(np.float64(3)))
        assert function(3.0) == copied(np.float64(3)), "the formula itself stays as it was"
    assert retype(closing_over(np.float64(0.1)), SINGLE).__closure__[0].cell_contents == np.float32(0.1)


def test_whole_numbers_stay_whole_in_exponents_and_only_there():
    code, known = with_numbers(of_several_lines, lambda value: value)
    assert known == {} and code is not of_several_lines.__code__ and code.co_code == of_several_lines.__code__.co_code
    assert numbers(lambda x: 2 * x ** 2) == [2.0] and numbers(lambda x: x ** (1 + 1)) == [] and numbers(lambda x: x ** 2.0) == [2.0]


def test_python_computes_beforehand_only_what_is_small():
    assert numbers(lambda x: x * 3 ** 40) == [np.float32(3 ** 40)]
    assert numbers(lambda x: x * 7 ** 129) == [7.0], "an exponent stays, what it belongs to is left to the run"
    assert numbers(lambda x: x if x else 1 / 0) == [1.0, 0.0]


def test_names_of_numbers_hide_no_name_of_the_formula():
    number_0 = 10.0
    assert retype(lambda x: number_0 * x + 0.5, SINGLE)(np.float32(1)) == 10.5


def test_written_code_has_a_tree():
    function = written("def f(x):\n    return x * 0.125\n", "f")
    assert ast.unparse(syntax_of(function)[0]).endswith("return x * 0.125") and numbers(function) == [0.125]


def test_a_file_that_was_edited_since_is_not_believed(tmp_path):
    file = tmp_path / "edited_formulas.py"
    file.write_text("f = lambda x: x * 2.0\ng = lambda x: x * 4.0\n")
    spec = importlib.util.spec_from_file_location("edited_formulas", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert numbers(module.g) == [4.0]
    file.write_text("f = lambda x: x * 2.0\ng = lambda x: x * 16.0\n")
    linecache.checkcache(str(file))
    assert syntax_of(module.g) is None and numbers_of_nothing(module.g) and numbers(module.f) == [2.0]


def numbers_of_nothing(function):
    code, known = with_numbers(function, np.float32)
    return code is function.__code__ and known is None


def test_statements_compiled_one_by_one_as_in_a_notebook():
    text = "import numpy as np\nf = lambda x: np.sqrt(x) * 2.0\n"
    name = "<cell of a notebook>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    known = {}
    for statement in ast.parse(text).body:
        exec(compile(ast.Module([statement], []), name, "exec"), known)
    assert numbers(known["f"]) == [2.0]


def test_without_its_text_a_formula_computes_the_same_and_says_what_that_costs():
    from_nowhere = eval("lambda x: x * 0.1 + 2")
    with pytest.warns(RuntimeWarning, match="its text cannot be read, so its numbers stay float64 .*define it in a file or a notebook"):
        copied = retype(from_nowhere, SINGLE)
    assert copied(np.float32(3)) == from_nowhere(np.float32(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        retype(from_nowhere, np.dtype(np.float64))         # nothing to lose
        retype(eval("lambda x: x * x"), SINGLE)            # no number
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    out = np.empty_like(x)
    with backend("numba"), warnings.catch_warnings():
        warnings.simplefilter("ignore")                    # it is said when machine code is made, not when it is found
        launch(elementwise(from_nowhere, "from_nowhere"), out, x)
    np.testing.assert_allclose(out, x.astype(np.float64) * 0.1 + 2, rtol=2e-7)


def test_machine_code_made_without_the_text_is_no_others():
    text = "def f(x):\n    return x * 0.375\n"
    known = {}
    exec(text, known)
    assert known["f"].__code__.co_code == written(text, "f").__code__.co_code
    assert fingerprint(known["f"]) != fingerprint(written(text, "f")) == fingerprint(written(text + "\n", "f"))
