"""Compiled code at the edges of a process's life: its end, Ctrl-C, forks, and many threads at once."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import deepnotes as dn
from deepnotes import kernels, optimizers, outputs
from deepnotes.capture import capture
from deepnotes.compiler import cache, life, loops
from deepnotes.training import Trainer
from deepnotes.training.callbacks import Callback

VECTOR = cache.array_type(np.dtype(np.float64))


def run(program, timeout=100, **environment):
    "A program in a process of its own; what it prints, if it ends well."
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)], env=env, timeout=timeout,
                          capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr[-3000:])
    return done.stdout, done.stderr


def data(rows):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 4)).astype(np.float32), rng.integers(0, 3, rows)


def a_step():
    model = dn.MLP(4, [8], 3, rng=0)
    optimizer = optimizers.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        loss = outputs.cross_entropy(model(dn.Tensor(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step


# The end of a process

OUTLIVE = """
    import atexit, builtins, gc, os, sys
    import numpy as np
    import deepnotes as dn
    from deepnotes import kernels

    def train():
        model = dn.MLP(4, [8], 3, rng=0)
        trainer = dn.Trainer(model)
        trainer.fit(np.ones((64, 4), np.float32), np.arange(64) % 3, epochs=2, progress=False)
        return trainer

    class Last:
        "Calls a loop when most of the library is gone."
        def __init__(self, kernel):
            self.run, self.x = kernel.compiled, np.ones(100_000, np.float32)
        def __del__(self):
            self.run(np.empty_like(self.x), self.x)
            os.write(1, b"called\\n")

    trainer = train()
    kernels.launch(kernels.exp, np.empty(3, np.float32), np.ones(3, np.float32))
    builtins.kept = trainer, Last(getattr(kernels.exp, "kernel", kernels.exp))
    try:
        raise ValueError(trainer)
    except ValueError as error:
        error.itself = error, trainer._step
    atexit.register(lambda trainer: (gc.collect(), trainer.fit(np.ones((64, 4), np.float32), np.arange(64) % 3, epochs=1, progress=False)),
                    train())
    class Cycle: pass
    cycle = Cycle(); cycle.itself, cycle.loops = cycle, list(sys.modules["deepnotes.compiler.cache"].native)
    del cycle
    print("done", flush=True)
"""


def test_what_outlives_the_library_at_the_end_of_the_process_is_whole():
    "Freed memory is overwritten (glibc and Python do that when asked), so that whoever still looks at it dies."
    out, error = run(OUTLIVE, MALLOC_PERTURB_="165", PYTHONMALLOC="debug")
    assert out == "done\ncalled\n" and "Traceback" not in error and "Error" not in error


def test_functions_survive_the_library_forgetting_all_it_knows_of_them():
    program = """
        import ctypes, gc, sys
        import numpy as np
        import deepnotes as dn
        from deepnotes import kernels
        from deepnotes.compiler import cache
        model = dn.MLP(4, [8], 3, rng=0)
        trainer = dn.Trainer(model)
        x, y = np.ones((64, 4), np.float32), np.arange(64) % 3
        trainer.fit(x, y, epochs=2, progress=False)
        loops = list(cache.native)
        inner = ("deepnotes._", "deepnotes.compiler.", "deepnotes.kernels.")
        for module in [m for name, m in sys.modules.items() if name.startswith(inner)]:
            for name, value in list(vars(module).items()):
                if name[0] == "_" and name[:2] != "__" and isinstance(value, list):
                    value.clear()
        gc.collect()
        junk = [(ctypes.c_char * 32)(*[255] * 32) for _ in range(2000)]
        gc.collect()
        assert all(loop.__name__ == "loop" and loop.__doc__ is None for loop in loops)
        trainer.fit(x, y, epochs=2, progress=False)
        print(len(loops) > 5)
    """
    assert run(program)[0] == "True\n"


# Ctrl-C

@pytest.fixture
def profiled():
    "Press Ctrl-C at the n-th event (call, return, call of C, return from C) of what runs under it."
    @contextlib.contextmanager
    def at(n):
        seen = [0]

        def event(frame, kind, what):
            seen[0] += 1
            if seen[0] == n:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

        sys.setprofile(event)
        try:
            yield seen
        finally:
            sys.setprofile(None)

    yield at
    sys.setprofile(None)


def press_everywhere(profiled, work, moments):
    "Do some work, once for each moment at which Ctrl-C is pressed; how often it was heard and how often work was done."
    heard = done = 0
    for n in moments:
        pressed = False
        try:
            with profiled(n) as seen:
                work()
            pressed = seen[0] >= n
            done += 1
        except KeyboardInterrupt:
            heard += 1
        assert not pressed, f"Ctrl-C was lost at event {n}"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return heard, done


def add_two(out, x):
    for i in range(x.size):
        out[i] = x[i] + 2.0


def check_add_two():
    out = np.empty(3)
    loops.compiled_function(add_two, np.dtype(np.float64), (VECTOR, VECTOR))(out, np.ones(3))
    assert (out == 3).all()


def test_ctrl_c_while_code_is_loaded_waits_until_that_is_done(profiled, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(tmp_path / "cache"))
    check_add_two()
    heard, done = press_everywhere(profiled, check_add_two, range(1, 2000, 16))
    assert heard > 30 and done > 0             # from some moment on all is done
    check_add_two()


def test_ctrl_c_while_code_is_compiled_waits_until_that_is_done(profiled, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    check_add_two()
    heard, _ = press_everywhere(profiled, check_add_two, (60, 1_000, 8_000, 20_000))
    assert heard == 4
    check_add_two()


def test_between_llvms_call_and_its_bookkeeping_nothing_is_raised(monkeypatch):
    binding, order = cache._llvm(), []
    create = binding.create_mcjit_compiler

    def interrupted(*args):
        engine = create(*args)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        order.append("whole")
        return engine

    monkeypatch.setattr(binding, "create_mcjit_compiler", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check_add_two()
    assert order == ["whole"]
    monkeypatch.undo()
    check_add_two()


def test_ctrl_c_while_a_step_is_recorded_leaves_a_step_that_works(profiled):
    _, plain = a_step()
    capture(plain)(*data(8)), plain(*data(8))                   # all loops are there
    x, y = data(8)
    for n in (1, 50, 400, 1500, 3000, 6000, 12000, 20000):
        model, step = a_step()
        fast = capture(step)
        heard, _ = press_everywhere(profiled, lambda fast=fast: [fast(x, y) for _ in range(3)], [n])
        for _ in range(4):
            loss = fast(x, y)
        assert fast.captured and np.isfinite(loss.item()), fast.reason
        assert type(model.parameters()[0].data) is np.ndarray
        again, plain = a_step()
        again.load_state_dict(model.state_dict())
        np.testing.assert_allclose(fast(x, y).item(), plain(x, y).item(), rtol=1e-5)
        for p, q in zip(model.parameters(), again.parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.data, rtol=1e-4, atol=1e-6)


class Falls:
    "Presses Ctrl-C while it is freed, where Python prints an exception and forgets it."

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("native", [True, False])
def test_ctrl_c_in_a_destructor_ends_a_captured_run(native):
    model, step = a_step()
    x, y = data(64)

    def with_list(x, y):
        loss = step(x, y)
        return [loss, float(loss.item())][:1]

    fast, calls = capture(step if native else with_list), []

    def progress(done):
        calls.append(done)
        if len(calls) == 4:
            Falls()

    order = np.tile(np.arange(64), 40)
    with pytest.raises(KeyboardInterrupt):
        fast.run((x, y), order, 1, progress=progress)
    assert len(calls) == 4 and calls[-1] < len(order)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(fast.run((x, y), np.arange(64), 1)[0]) == 64


def test_a_second_ctrl_c_reaches_a_step_that_hangs():
    stages = []

    def hangs(x, y):
        for stage in range(5):
            stages.append(stage)
            signal.raise_signal(signal.SIGINT)
        return dn.Tensor(x)

    with pytest.raises(KeyboardInterrupt):
        capture(hangs)(*data(4))
    assert stages == [0, 1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("moment", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("press", [lambda: signal.raise_signal(signal.SIGINT), Falls], ids=["plain", "destructor"])
def test_ctrl_c_in_a_callback_is_heard_by_the_end_of_fit(moment, press):
    class Presses(Callback):
        pass

    pressed = []

    def once(self, trainer, *args):
        if not pressed and len(trainer.history) in (0, 1):
            pressed.append(1)
            press()

    setattr(Presses, moment, once)
    model, _ = a_step()
    trainer = Trainer(model, seed=1)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(*data(32), epochs=1, batch_size=8, callbacks=[Presses()], progress=False)
    assert pressed and all(np.isfinite(p.data).all() for p in model.parameters())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    trainer.fit(*data(32), epochs=1, batch_size=8, progress=False)


def test_handlers_of_others_are_called_and_stay():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGINT)
        with life.Interrupts(patient=True) as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            assert heard == []
            ctrl_c.check()
            assert heard == [signal.SIGINT]
            ctrl_c.check()
        assert heard == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is mine
        for quiet in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGINT, quiet)
            with life.Interrupts():
                assert signal.getsignal(signal.SIGINT) is quiet
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone():
    found = []

    def work():
        with life.Interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


# Forks

def child_does(work, seconds=60):
    "Fork; whether the child does some work. A child that hangs is killed by its alarm."
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(seconds)
            work()
            status = 0
        os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def test_a_child_forked_while_another_thread_compiles_can_compile(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_folder", lambda: None)
    begun, compile_loop = threading.Event(), kernels.compiler().compile_loop

    def announced(*args):
        begun.set()
        return compile_loop(*args)

    monkeypatch.setattr(kernels.compiler(), "compile_loop", announced)
    thread = threading.Thread(target=check_add_two)
    thread.start()
    begun.wait()
    assert child_does(check_add_two)
    thread.join()
    check_add_two()


@pytest.mark.parametrize("lock", range(3))
def test_a_fork_waits_for_each_lock_that_guards_the_compiler(lock):
    check_add_two()
    kernels.compiler()
    assert len(life._guards) == 3                              # ours, LLVM's, numba's
    guard, held, free = life._guards[lock], threading.Event(), threading.Event()

    def hold():
        guard.acquire()
        held.set()
        free.wait(0.2)
        guard.release()

    def use():
        for other in life._guards:
            other.acquire()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert child_does(use, seconds=10)
    thread.join()
    assert not life._taken and not life._forks


def test_a_child_forked_in_the_middle_of_a_captured_run_can_run_it_too():
    _, step = a_step()
    fast, (x, y), going, end = capture(step), data(64), threading.Event(), threading.Event()
    fast.run((x, y), np.arange(64), 8)

    def progress(done):
        going.set()
        end.wait(60)

    thread = threading.Thread(target=fast.run, args=((x, y), np.arange(64), 8), kwargs={"progress": progress})
    thread.start()
    going.wait()
    assert child_does(lambda: fast.run((x, y), np.arange(64), 8), seconds=20)
    end.set()
    thread.join()
    fast(x[:8], y[:8])


def test_a_child_forked_inside_a_captured_run_goes_on():
    _, step = a_step()
    fast, (x, y), children = capture(step), data(64), []
    fast.run((x, y), np.arange(64), 8)

    def progress(done):
        if not children:
            children.append(child_does(lambda: fast(x[:8], y[:8]), seconds=20))

    fast.run((x, y), np.arange(64), 8, progress=progress)
    assert children == [True]


# Threads

def test_threads_that_compile_at_once_in_a_fresh_process(tmp_path):
    program = """
        import threading
        import numpy as np
        from deepnotes import kernels as k
        k.set_num_threads(1)
        barrier, errors, results = threading.Barrier(3), [], []
        formulas = [lambda x: x * 2 + 1, lambda x: k.exp(x), lambda x: x * x]
        own = [k.elementwise(f, "own") for f in formulas]
        x = np.ones(4, np.float32)
        def work(kernel):
            try:
                barrier.wait()
                for kernel in (kernel, k.square):
                    results.append(float(k.launch(kernel, np.empty_like(x), x)[0]))
            except BaseException as error:
                errors.append(repr(error))
        threads = [threading.Thread(target=work, args=(kernel,)) for kernel in own]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(errors, sorted(round(r, 4) for r in results))
    """
    out, _ = run(program, DEEPNOTES_CACHE_DIR=str(tmp_path / "cache"))
    assert out == "[] [1.0, 1.0, 1.0, 1.0, 2.7183, 3.0]\n"


def test_a_kernels_compiled_form_is_made_once_by_many_threads(monkeypatch):
    kernel = kernels.elementwise(lambda x: x + 3, "three")
    kernel = getattr(kernel, "kernel", kernel)
    made, make, barrier, forms = [], kernel.make_loop, threading.Barrier(4), []

    def slow(*args):
        made.append(1)
        threading.Event().wait(0.1)                             # lets the others come
        return make(*args)

    monkeypatch.setattr(kernel, "make_loop", slow)

    def work():
        barrier.wait()
        forms.append(kernel.loops())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(forms) == 4 and len(set(forms)) == 1


# Loops that no file can hold

def test_a_loop_that_needs_numba_while_it_runs_is_compiled_in_each_process(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(tmp_path / "cache"))

    def build(machine):
        def twice(out, x):
            copy = np.empty(x.size)             # memory that numba's run time provides
            for i in range(x.size):
                copy[i] = x[i]
            for i in range(x.size):
                out[i] = copy[i] + copy[x.size - 1 - i]
        return twice

    loop = loops.machine_code(build, (VECTOR, VECTOR), "a loop that allocates")
    out = np.empty(3)
    gc.collect()
    loop(out, np.ones(3))
    assert (out == 2).all() and not list((tmp_path / "cache").iterdir())
