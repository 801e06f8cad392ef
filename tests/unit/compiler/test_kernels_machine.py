"""What the compiler adds: accurate vector mathematics, a cache that is only ever right, threads."""
import importlib.util
import math
import os
import shutil
import subprocess
import sys
import textwrap
import time
import types
from concurrent.futures import ThreadPoolExecutor

import mpmath
import numpy as np
import pytest
from conftest import ROOT
from scipy import special

from deepnotes import kernels as k
from deepnotes.compiler import loops
from deepnotes.kernels import threads

EXACT = {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "sigmoid": special.expit,
         "erf": special.erf}


def compiled(name, x):
    with k.backend("numba"):
        return k.launch(getattr(k, name), np.empty_like(x), x)


def ordered_floats(step):
    "Every step-th float32 that is a number, from -inf to inf."
    top = int(np.float32(np.inf).view(np.int32))
    bits = np.arange(0, top + 1, step, dtype=np.int64).astype(np.int32).view(np.float32)
    return np.concatenate([-bits[::-1], bits])


@pytest.mark.parametrize("name", EXACT)
def test_float32_mathematics_is_accurate_over_all_exponents(name):
    x = np.concatenate([ordered_floats(4001), np.linspace(-110, 100, 200_001, dtype=np.float32),
                        np.linspace(-2, 2, 200_001, dtype=np.float32)])
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        y = compiled(name, x).astype(np.float64)
        info = np.finfo(np.float32)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(exact))
        normal = (np.abs(exact) >= info.smallest_normal) & (np.abs(exact) <= info.max)
        assert np.max(np.abs(y - exact)[normal] / np.abs(exact)[normal]) <= 1e-6
        small = np.abs(exact) < info.smallest_normal              # gradual underflow, to two of the smallest steps
        assert np.max(np.abs(y - exact)[small], initial=0) <= 2 * info.smallest_subnormal
        large = np.abs(exact) > info.max * (1 + 1e-6)
        np.testing.assert_array_equal(y[large], np.sign(exact[large]) * np.inf)


@pytest.mark.parametrize("name", EXACT)
def test_float64_mathematics_is_accurate(name):
    mpmath.mp.dps = 40
    true = {"sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "tanh": mpmath.tanh, "erf": mpmath.erf, "exp": mpmath.exp,
            "expm1": mpmath.expm1, "log": mpmath.log, "log1p": mpmath.log1p}[name]
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-30, 30, 300), rng.standard_normal(300), rng.standard_normal(100) * 1e-5,
                        rng.uniform(-700, 700, 100), 10.0 ** rng.uniform(-300, 300, 100),
                        -(10.0 ** rng.uniform(-300, -1, 50))])
    if name.startswith("log"):
        x = x[x > (-1 if name == "log1p" else 0)]
    y = compiled(name, x)
    for a, b in zip(x, y, strict=True):
        exact = true(mpmath.mpf(float(a)))
        if abs(exact) < 2.3e-308:
            assert abs(b) < 2.3e-308
        elif abs(exact) > 1.7e308:
            assert np.isinf(b)
        else:
            assert abs((mpmath.mpf(float(b)) - exact) / exact) <= 1e-14, (a, b)


LIMITS = {"exp": [np.inf, 0, 1, 1], "expm1": [np.inf, -1, 0, -0.0], "log": [np.inf, np.nan, -np.inf, -np.inf],
          "log1p": [np.inf, np.nan, 0, -0.0], "tanh": [1, -1, 0, -0.0], "sigmoid": [1, 0, 0.5, 0.5],
          "erf": [1, -1, 0, -0.0]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_exact_signs_included(name, dtype):
    y = compiled(name, np.array([np.inf, -np.inf, 0.0, -0.0], dtype))
    np.testing.assert_array_equal(y, LIMITS[name])
    np.testing.assert_array_equal(np.signbit(y)[2:], np.signbit(np.array(LIMITS[name])[2:]))
    assert np.isnan(compiled(name, np.array([np.nan], dtype))).all()
    if name == "log":
        assert np.isnan(compiled(name, np.array([-1], dtype))).all()
    if name == "log1p":
        np.testing.assert_array_equal(compiled(name, np.array([-1, -2], dtype)), [-np.inf, np.nan])


@pytest.mark.parametrize("name", EXACT)
def test_monotone_where_pieces_meet(name):
    # all seven rise; rounding may fall by a unit in the last place or two between neighbours, joins may not add to it
    joins = [0.1, 0.3465736, 1.0, 4.0, 10.0, 88.72, 0.5493061, 0.70710678, 1.4142135, 6e-8]
    for join in joins:
        start = int(np.float32(join).view(np.int32)) - 20_000
        x = np.arange(start, start + 40_000, dtype=np.int32).view(np.float32)
        for z in (x, -x[::-1]):
            y = compiled(name, np.ascontiguousarray(z)).astype(np.float64)
            if np.isnan(y).any():
                continue
            assert np.isinf(y[np.isfinite(y).sum():]).all() or np.isinf(y[0])      # infinities come at an end
            y = y[np.isfinite(y)]
            fall, step = np.maximum.accumulate(y) - y, np.spacing(np.abs(y).astype(np.float32)).astype(np.float64)
            assert not (fall > 2 * step).any(), join


# The cache, watched from other processes

PROGRAM = """
    import sys, time
    import numpy as np
    from deepnotes import kernels as k
    from deepnotes.compiler import loops
    compiled = []
    def compiler(original=loops.compiler):
        machine = original()
        if machine.compile_loop is not counting:
            compiled.append(machine.compile_loop)
            machine.compile_loop = counting
        return machine
    def counting(*args, **options):
        compiled.append(1)
        return compiled[0](*args, **options)
    loops.compiler = compiler
    f = k.elementwise(lambda x: FORMULA, "f")
    x = np.linspace(0, 1, 11, dtype=np.float32)
    y = k.launch(f, np.empty_like(x), x)
    k.launch(k.softmax, np.empty((1, 11), np.float32), x[None])
    assert bool(compiled) == ("numba" in sys.modules)       # loops that are found do without it
    print(len(compiled[1:]), *y[:3].tolist())
"""


def run(program, folder, **environment):
    ours = {"DEEPNOTES_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT), "NUMBA_DISABLE_JIT": None}
    env = {**os.environ, **ours, **environment}
    env = {name: value for name, value in env.items() if value is not None}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=folder.parent)


def compilations(folder, formula="k.exp(x) + 1", **environment):
    done = run(PROGRAM.replace("FORMULA", formula), folder, **environment)
    assert done.returncode == 0, done.stderr
    count, *values = done.stdout.split()
    return int(count), [float(v) for v in values]


def test_compiled_code_is_found_by_the_next_process_and_formulas_never_mix(tmp_path):
    folder = tmp_path / "cache"
    count, first = compilations(folder)
    assert count == 2 and sorted(folder.iterdir())
    assert folder.stat().st_mode & 0o777 == 0o700
    files = {path.name for path in folder.iterdir()}
    assert len(files) == 2
    assert compilations(folder) == (0, first)                       # the next process finds it
    assert {path.name for path in folder.iterdir()} == files        # and adds nothing
    count, other = compilations(folder, "k.exp(x) + 2")             # a changed constant is another formula
    assert count == 1 and np.allclose(np.array(other) - first, 1)
    one, two = sorted(folder.iterdir())[:2]
    one.write_bytes(one.read_bytes()[:1000])                        # truncated
    two.unlink()                                                    # deleted
    _, again = compilations(folder)
    assert again == first
    assert compilations(folder) == (0, first)                       # both were written anew


@pytest.mark.slow("five processes find no machine code that they may use, and compile")
def test_a_cache_that_cannot_be_written_or_trusted_is_left_alone(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert compilations(folder)[0] == 2
    assert not list(folder.iterdir())               # others could plant a pickle there: neither read nor written
    done = run(PROGRAM.replace("FORMULA", "x"), folder, DEEPNOTES_CACHE_DIR=str(blocked / "cache"))
    assert done.returncode == 0 and done.stdout.split()[0] == "2"
    frozen = tmp_path / "frozen"
    frozen.mkdir(mode=0o500)
    assert compilations(frozen)[1] == compilations(folder)[1]


def test_two_processes_compile_the_same_loops_at_once(tmp_path):
    folder = tmp_path / "cache"
    with ThreadPoolExecutor(2) as pool:
        results = [f.result() for f in [pool.submit(compilations, folder) for _ in range(2)]]
    assert results[0][1] == results[1][1]
    assert compilations(folder) == (0, results[0][1])
    assert not list(folder.glob("*.tmp"))


def test_importing_compiles_nothing_and_does_not_import_numba(tmp_path):
    done = run("import sys, deepnotes.kernels; print('numba' in sys.modules)", tmp_path / "cache")
    assert done.stdout.strip() == "False" and not (tmp_path / "cache").exists()


BESIDE = str(ROOT / "tests" / "unit" / "kernels")  # where test_kernels.py is, whose step is taken here, too
STEP = """
    import sys
    {before}
    import numpy as np
    sys.path.insert(0, {tests!r})
    import test_kernels as t
    buffers = t.make_buffers()
    t.training_step(buffers)
    from deepnotes import kernels
    print(kernels.default_backend(), float(buffers[2].sum()))
"""


@pytest.mark.parametrize("before, environment", [
    ("sys.modules['numba'] = None", {}), ("", {"NUMBA_DISABLE_JIT": "1"}), ("", {"DEEPNOTES_BACKEND": "numpy"}),
    ("", {"DEEPNOTES_BACKEND": "numba"})], ids=["no numba", "jit disabled", "numpy", "numba"])
def test_a_step_runs_on_what_there_is(tmp_path, monkeypatch, before, environment):
    environment = {"NUMBA_DISABLE_JIT": None, "DEEPNOTES_BACKEND": None, **environment}
    done = run(STEP.format(before=before, tests=BESIDE), tmp_path / "cache", **environment)
    assert done.returncode == 0, done.stderr
    name, total = done.stdout.split()
    assert name == ("numba" if environment["DEEPNOTES_BACKEND"] == "numba" else "numpy")
    assert done.stderr.count("numba is not installed") == ("None" in before)
    monkeypatch.syspath_prepend(BESIDE)
    import test_kernels as t
    buffers = t.make_buffers()
    with k.backend("numpy"):
        t.training_step(buffers)
    assert abs(float(total) - float(buffers[2].sum())) < 1e-4


def test_a_change_in_any_module_that_writes_loops_renames_all_files(tmp_path, monkeypatch):
    from deepnotes.compiler import cache
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    below = {"compiler", "kernels"}
    modules = {check.module_of(path, ROOT / "deepnotes") for path in (ROOT / "deepnotes").rglob("*.py")}
    no_loops = {"compiler", "compiler.__main__", "compiler.borrowed", "kernels", "kernels.configuration"}
    assert set(cache.STAMPED) == {name for name in modules if name.split(".")[0] in below} - no_loops
    find = importlib.util.find_spec
    copies = {name: tmp_path.joinpath(*name.split(".")).with_suffix(".py") for name in cache.STAMPED}

    def find_copy(name):
        found = find(name)
        return types.SimpleNamespace(origin=str(tmp_path / "__init__.py"), loader=found.loader) if name == "deepnotes" else found

    for name, copy in copies.items():
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(find(f"deepnotes.{name}").origin, copy)
    monkeypatch.setattr(importlib.util, "find_spec", find_copy)
    assert cache._stamp() == cache.stamp()
    seen = {cache.stamp()}
    for name in cache.STAMPED:
        with open(copies[name], "a") as file:
            file.write("# changed")
        seen.add(cache._stamp())
    assert len(seen) == 1 + len(cache.STAMPED)


def test_functions_of_one_name_are_told_apart_by_their_code(tmp_path, monkeypatch):
    from deepnotes.compiler import cache
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(tmp_path / "cache"))
    functions = module_of("""
        def times(out): out[0] = out[0] * 3.0
        first = times
        def times(out): out[0] = out[0] * 4.0
        second = times
        def times(out): out[0] = out[0] + 4.0
        third = times
    """)
    dtype, found = np.dtype(np.float64), []
    for function in (functions.first, functions.second, functions.third, functions.second):
        out = np.array([5.0])
        loops.compiled_function(function, dtype, (cache.array_type(dtype),))(out)
        found.append(out[0])
    assert found == [15, 20, 9, 20]
    assert len(list((tmp_path / "cache").iterdir())) == 3


# Threads

def mixed_calls(seed, count):
    "Many launches of several kernels, large enough ones among them to be split; a digest of all results."
    rng = np.random.default_rng(seed)
    big, small = rng.standard_normal((300, 500)).astype(np.float32), rng.standard_normal((8, 11)).astype(np.float32)
    digest = 0
    for i in range(count):
        x = big if i % 50 == 0 else small
        out = np.empty_like(x)
        kernel = (k.tanh, k.exp, k.softmax, k.log_softmax, k.add)[i % 5]
        k.launch(kernel, out, x, x) if kernel is k.add else k.launch(kernel, out, x)
        total = k.launch(k.sum, np.empty((), np.float32), out)
        digest = hash((digest, out.tobytes(), total.tobytes()))
    return digest


def test_eight_threads_get_what_one_gets():
    alone = [mixed_calls(seed, 1000) for seed in range(2)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: mixed_calls(i % 2, 1000), range(8)))
    assert together == [alone[i % 2] for i in range(8)]


def test_results_do_not_depend_on_the_number_of_threads():
    x = np.random.default_rng(0).standard_normal((37, 9001)).astype(np.float32)
    before = k.get_num_threads()
    results, worth = [], threads.WORTH
    for _ in range(4):                              # loops are timed alone before they are split
        k.launch(k.tanh, np.empty_like(x), x), k.launch(k.softmax, np.empty_like(x), x)
    try:
        threads.WORTH = 0.0
        for n in (1, 2, 3):
            k.set_num_threads(n)
            out = k.launch(k.tanh, np.empty_like(x), x)
            total = k.launch(k.sum, np.empty((), np.float32), x)
            rows = k.launch(k.softmax, np.empty_like(x), x)
            results.append((out.tobytes(), total.tobytes(), rows.tobytes()))
    finally:
        k.set_num_threads(before)
        threads.WORTH = worth
    assert results[0] == results[1] == results[2]
    with pytest.raises(ValueError, match="at least 1"):
        k.set_num_threads(0)


@pytest.fixture
def two_threads():
    before = k.get_num_threads()
    k.set_num_threads(2)
    yield
    k.set_num_threads(before)


def test_an_error_of_a_loop_reaches_the_caller(two_threads):
    def broken(x):
        raise RuntimeError("broken")
    for _ in range(5):
        with pytest.raises(RuntimeError, match="broken"):
            k.split(broken, 10 * k.GRAIN, 10 * k.GRAIN, [np.empty(10 * k.GRAIN, np.int8)])


def shared_loop():
    "A loop with arrays that are cut, one that is not, and a number; counts, for each entry, how often it was done."
    from deepnotes.compiler import cache
    def count_up(out, row, x):
        for i in range(out.shape[0]):
            for j in range(out.shape[1]):
                out[i, j] = out[i, j] + row[j] * x
    d = np.dtype(np.float64)
    signature = (cache.array_type(d, 2), cache.array_type(d), "float64")
    return loops.machine_code(lambda machine: machine.retype(count_up, d, integers=False), signature, "count_up")


@pytest.mark.parametrize("cores", [2, 3, 5])
def test_a_pool_does_every_chunk_once(cores):
    from deepnotes.compiler import workers
    pool, loop, row = workers.Pool(), shared_loop(), np.arange(1.0, 41.0)
    for rows, chunk in ((1, 1), (7, 3), (1000, 1), (1000, 64), (1000, 5000)):
        out = np.zeros((rows, 40))
        for i in range(50):
            if i % 10 == 0:
                time.sleep(0.002)                   # workers fall asleep
            if not pool.run(loop, rows, chunk, [out, row, 0.5], (True, False, False), cores):
                loop(out, row, 0.5)                 # they are being let sleep
        np.testing.assert_array_equal(out, np.broadcast_to(25.0 * row, out.shape))


def test_a_busy_pool_refuses_and_loops_without_native_form_are_left_to_the_caller():
    from deepnotes.compiler import workers
    pool, loop, out, row = workers.Pool(), shared_loop(), np.zeros((8, 40)), np.ones(40)
    pool.memory[workers.BUSY] = 1
    assert not pool.run(loop, 8, 2, [out, row, 1.0], (True, False, False), 2) and not out.any()
    pool.memory[workers.BUSY] = 0
    assert not pool.run(lambda out, row, x: None, 8, 2, [out, row, 1.0], (True, False, False), 2)
    assert pool.run(loop, 8, 2, [out, row, 1.0], (True, False, False), 2) and (out == 1).all()


def test_many_threads_share_one_pool():
    from deepnotes.compiler import workers
    pool, loop, row = workers.Pool(), shared_loop(), np.ones(40)

    def many(i):
        out, refused = np.zeros((300, 40)), 0
        for _ in range(300):
            refused += not pool.run(loop, 300, 16, [out, row, 1.0], (True, False, False), 3)
        assert (out == 300 - refused).all()
        return refused

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(many, range(6))) < 1800


def test_a_forked_child_starts_its_own_workers():
    program = """
        import os, sys, warnings
        import numpy as np
        from deepnotes import kernels as k
        from deepnotes.kernels import threads
        warnings.simplefilter("ignore")
        k.set_num_threads(2)
        threads.WORTH = 0.0
        x = np.ones(200_000, np.float32)
        def check():
            for _ in range(20):
                assert (k.launch(k.square, np.zeros_like(x), x) == 1).all()
            return threads._pool is not None or not k.can_compile()
        assert check()
        child = os.fork()
        if child == 0:
            os._exit(0 if check() else 3)
        assert os.waitpid(child, 0)[1] == 0 and check()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_formula_that_refers_to_an_array_is_refused_with_a_reason():
    from deepnotes.compiler import cache
    table = np.zeros(3)
    with pytest.raises(TypeError, match="may refer to numbers and functions"):
        cache.fingerprint(lambda x: x + table[0])


def module_of(text, **names):
    "A module with the given text, as formulas are found in one."
    module = types.ModuleType("formulas")
    module.__dict__.update(names)
    exec(textwrap.dedent(text), module.__dict__)
    return module


def test_words_reached_through_a_module_are_not_mistaken_for_functions_of_the_same_name():
    from deepnotes.compiler import cache
    module = module_of("""
        def cos(x): return record(cos, x)
        def where(c, x, y): return cos(table)
        formula = lambda c, x: kernels.where(c, kernels.cos(x) * 0.5, math.pi)
    """, kernels=k, math=__import__("math"), table=np.zeros(3))
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    with k.backend("numba"):
        y = k.launch(k.elementwise(module.formula, "formula"), np.empty_like(x), x > 0, x)
    np.testing.assert_allclose(y, np.where(x > 0, np.cos(x) * 0.5, np.pi), rtol=1e-6)
    assert "cos" in cache.fingerprint(module.formula)


def test_a_changed_function_of_a_module_is_another_formula():
    from deepnotes.compiler import cache
    helpers = module_of("def half(x): return 0.5 * x")
    formula = lambda x: helpers.half(x) + 1  # noqa: E731
    before = cache.fingerprint(formula)
    x = np.arange(3, dtype=np.float32)
    with k.backend("numba"):
        np.testing.assert_array_equal(k.launch(k.elementwise(formula, "f"), np.empty_like(x), x), 0.5 * x + 1)
    helpers.half = lambda x: 0.25 * x
    assert cache.fingerprint(formula) != before


def test_a_formula_that_calls_itself_is_refused():
    module = module_of("def f(x): return f(x - 1) if x > 0 else x")
    with k.backend("numba"), pytest.raises(TypeError, match="may not call itself"):
        k.launch(k.elementwise(module.f, "f"), np.empty(3), np.ones(3))


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sin_and_cos_inside_formulas_are_right_for_every_float32(name):
    word, reference = getattr(k, name), getattr(mpmath, name)
    formula = k.elementwise(lambda x: word(x), name)
    x = ordered_floats(4001)[1:-1]
    with k.backend("numba"):
        y = k.launch(formula, np.empty_like(x), x).astype(np.float64)
        ends = k.launch(formula, np.empty(3, np.float32), np.float32([np.inf, -np.inf, np.nan]))
        zeros = k.launch(formula, np.empty(2, np.float32), np.float32([0.0, -0.0]))
        whole = k.launch(formula, np.empty(3), np.array([0.5, -2.0, 1e22]))
    exact = getattr(np, name)(x.astype(np.float64))
    limit = np.where(np.abs(x) <= 2048, 2.2e-7, 1e-7)                   # the quick form, the long one
    assert np.all(np.abs(y - exact) <= limit * np.abs(exact))
    with mpmath.workprec(400):
        for a, b, most in zip(x[::1009], y[::1009], limit[::1009], strict=True):
            true = reference(mpmath.mpf(float(a)))
            assert true == b == 0 or abs((b - true) / true) <= most
    assert np.isnan(ends).all()
    np.testing.assert_array_equal(zeros, [0, 0] if name == "sin" else [1, 1])
    assert name == "cos" or np.signbit(zeros).tolist() == [False, True]
    np.testing.assert_allclose(whole, getattr(np, name)(np.array([0.5, -2.0, 1e22])), rtol=1e-14)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_quick_sin_and_cos_are_right_next_to_every_multiple_of_a_quarter_turn(name):
    word = getattr(k, name)
    with mpmath.workprec(100):
        near = np.float32([float(i * mpmath.pi / 2) for i in range(1, 1304)])         # up to 2048
    x = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(3000)), -near])
    with k.backend("numba"):
        y = k.launch(word, np.empty_like(x), x).astype(np.float64)
    exact = getattr(np, name)(x.astype(np.float64))
    assert np.all(np.abs(y - exact) <= 2.2e-7 * np.abs(exact))


def test_an_element_of_a_sine_does_not_depend_on_its_neighbors_or_on_where_it_is_written():
    x = np.random.default_rng(0).uniform(-20, 20, (7, 1500)).astype(np.float32)
    wild = x.copy()
    wild[:, ::300], wild[3, 7], wild[4, 8] = 1e30, np.nan, np.inf
    waves = k.elementwise(lambda x, y: k.sin(x) * k.cos(x + y), "waves")
    row = np.linspace(0, 1, 1500, dtype=np.float32)
    with k.backend("numba"):
        apart = [k.launch(waves, np.empty(1, np.float32), wild[i, j:j + 1], row[j:j + 1])[0]
                 for i in (0, 3, 4) for j in (0, 7, 8, 300, 301)]
        together = k.launch(waves, np.empty_like(wild), wild, row)
        tame = k.launch(waves, np.empty_like(x), x, row)
        in_place = k.launch(waves, wild.copy(), wild, row)
        again = wild.copy()
        k.launch(waves, again, again, row)
    np.testing.assert_array_equal([together[i, j] for i in (0, 3, 4) for j in (0, 7, 8, 300, 301)], apart)
    same = wild == x
    np.testing.assert_array_equal(together[same], tame[same])
    np.testing.assert_array_equal(in_place, together)
    np.testing.assert_array_equal(again, together)
    assert np.isnan(together[3, 7]) and np.isnan(together[4, 8]) and np.isfinite(together[:, ::300]).all()


def test_formulas_that_could_hide_a_nan_keep_to_the_long_sine():
    from deepnotes.kernels import formulas
    inner = lambda x: k.sin(x) * 0.5  # noqa: E731
    assert all(map(formulas.tries, [k.sin, k.cos, inner, lambda x: inner(x) + 1, lambda x: k.exp(k.cos(x) ** 2)]))
    for formula in (k.exp, lambda x: x + 1, lambda x: k.where(k.sin(x) > 0, x, 1.0), lambda x: k.isnan(k.sin(x)),
                    lambda x: 1.0 if k.sin(x) > 0 else 2.0, lambda x: k.sin(x) ** 0, lambda x: math.cos(x)):
        assert not formulas.tries(formula)
    x = np.float32([1, 1e30])
    with k.backend("numba"):
        formula = k.elementwise(lambda x: k.where(k.sin(x) > 0, 1.0, -1.0), "sign_of_sin")
        positive = k.launch(formula, np.empty_like(x), x)
    np.testing.assert_array_equal(positive, np.where(np.sin(x.astype(float)) > 0, 1, -1))
