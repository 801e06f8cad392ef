"""Several ranks train one network: as one process would, with the same bits on all, and nobody is left waiting."""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rank_programs
from conftest import ROOT

import deepnotes as dn
from deepnotes import outputs
from deepnotes.parallel import simulate
from deepnotes.training import agreement, shares

PROGRAM = Path(rank_programs.__file__)
ALIKE = ["plain", "eager", "dropped", "clipped", "weighted", "ignored", "squares", "binary", "scheduled", "own_loss",
         "streamed", "unreached", "stops_early"]
TROUBLE = {
    "fails_in_a_step": ("ArithmeticError", "the third batch is odd."),
    "fails_in_a_callback": ("LookupError", "no such thing."),
    "cannot_write": ("FileNotFoundError", "nowhere"),
    "has_a_hole": ("ValueError", "X must hold finite"),
}
DIFFERENT = {"has_other_rows": "data of rank 0", "has_another_stream": "the batches of the ranks have", "drifts": "not those of rank 0"}


def mpiexec():
    """The program that starts ranks, beside this Python or on the path; None without MPI."""
    if importlib.util.find_spec("mpi4py") is None:
        return None
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


needs_mpi = pytest.mark.skipif(mpiexec() is None, reason="mpi4py and an mpiexec are not installed: pip install 'deepnotes[mpi]'")


def start(ranks, *arguments):
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    root = str(ROOT)
    return subprocess.run([mpiexec(), "-n", str(ranks), sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, env={**os.environ, **one_thread, "PYTHONPATH": root})


@pytest.fixture(scope="module")
def on_mpi(tmp_path_factory):
    """What programs give on so many ranks of MPI, all of them run at once."""
    @functools.cache
    def results(ranks, *names):
        done = start(ranks, tmp_path_factory.mktemp("ranks"), *names)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return results


@functools.cache
def in_one_process(name):
    return getattr(rank_programs, name)()


def on_threads(size, name, folder=None):
    return simulate(size, functools.partial(rank_programs.call, name), folder)


def same_on_all(told):
    assert len({rank["digest"] for rank in told}) == 1
    assert all(rank == told[0] for rank in told)


def check_alike(told, alone, bound=1e-12):
    same_on_all(told)
    got = told[0]
    assert np.abs(np.subtract(got["weights"], alone["weights"])).max() < bound
    assert got["epochs"] == alone["epochs"] and got["streams"] == alone["streams"]
    assert got["history"].keys() == alone["history"].keys()
    for name, column in got["history"].items():
        assert np.allclose(column, alone["history"][name], rtol=bound, atol=bound), name
    for name in got.keys() & {"best", "second"}:
        assert got[name] == alone[name]


# --- the same as one process -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALIKE)
def test_three_ranks_on_threads_get_what_one_process_gets(name):
    check_alike(on_threads(3, name), in_one_process(name))


@needs_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_on_mpi_get_what_one_process_gets(ranks, on_mpi):
    told = on_mpi(ranks, *ALIKE)
    for name in ALIKE:
        check_alike(told[name], in_one_process(name))


def test_single_precision_differs_by_roundings():
    check_alike(on_threads(2, "single_precision"), in_one_process("single_precision"), 1e-5)


def test_both_pieces_of_the_step_are_captured_and_stay_so():
    told = on_threads(2, "plain")
    assert all(rank["captured"] for rank in told), told[0]["reason"]


def test_user_code_stays_in_python_and_says_so():
    def program(comm):
        return rank_programs.fit(comm, loss=lambda out, y: outputs.cross_entropy(out, y))._step.reason

    assert "code of the user" in simulate(2, program)[0]


def test_one_message_a_step_of_gradients_and_a_few_numbers():
    def program(comm):
        model = rank_programs.network()
        rank_programs.fit(comm, model=model, epochs=2)
        return comm.messages, comm.bytes, sum(p.size for p in model.parameters()), len(model.parameters())

    steps, ranks = 2 * 4, 2
    for messages, size, gradients, parameters in simulate(ranks, program):
        assert messages == steps
        assert size == steps * 8 * (gradients + parameters + 2 + ranks)


def test_a_parameter_that_no_row_reaches_is_not_moved():
    before = rank_programs.Partly().second.weight.data.ravel().tolist()
    assert on_threads(2, "unreached")[0]["second"] == before


def test_all_begin_with_the_weights_of_rank_0():
    alone = in_one_process("plain")
    check_alike(on_threads(3, "begins_apart"), {**alone, "history": alone["history"]})


def test_a_communicator_of_one_rank_is_one_process():
    check_alike(on_threads(1, "dropped"), in_one_process("dropped"))


# --- stopping, saving, going on --------------------------------------------------------------------------------------
def test_where_one_rank_stops_all_stop():
    told = on_threads(3, "stopped_by_one")
    same_on_all(told)
    assert told[0]["epochs"] == 1 and told[0]["position"] == 2


@pytest.mark.parametrize("first, then", [(2, 3), (3, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(first, then, tmp_path):
    written = on_threads(first, "saves", tmp_path)[0]["written"]
    assert written == ["run.safetensors"]
    alone = rank_programs.fit(None, model=rank_programs.network(dropout=0.3), epochs=2)
    check_alike(on_threads(then, "goes_on", tmp_path), rank_programs.told(alone))


@needs_mpi
def test_a_run_of_two_goes_on_with_three(tmp_path):
    assert start(2, tmp_path, "saves").returncode == 0
    alone = rank_programs.fit(None, model=rank_programs.network(dropout=0.3), epochs=2)
    done = start(3, tmp_path, "goes_on")
    assert done.returncode == 0, done.stderr
    check_alike(json.loads(done.stdout)["goes_on"], rank_programs.told(alone))


def test_a_checkpoint_that_only_rank_0_can_see_is_handed_around(tmp_path, monkeypatch):
    on_threads(1, "saves", tmp_path)

    def program(comm):
        path = tmp_path / "run.safetensors" if comm.rank == 0 else tmp_path / "another disk" / "run.safetensors"
        return dn.Trainer.load(path, parallel=comm)._position["step"]

    assert simulate(2, program) == [2, 2]
    with pytest.raises(OSError, match="run.safetensors|could not read"):
        simulate(2, lambda comm: dn.Trainer.load(tmp_path / "another disk" / "run.safetensors", parallel=comm))


# --- what goes wrong on one rank -------------------------------------------------------------------------------------
def check_trouble(told, kind, message):
    own = [rank for rank in told if rank["kind"] == kind and message in rank["message"]]
    others = [rank for rank in told if rank not in own]
    assert own and len(own) < len(told), told
    for rank in others:
        assert rank["kind"] == "RuntimeError" and f"ended with {kind}" in rank["message"] and message in rank["message"]


@pytest.mark.parametrize("name", TROUBLE)
def test_what_one_rank_raises_ends_all_with_its_message(name, tmp_path):
    check_trouble(on_threads(3, name, tmp_path), *TROUBLE[name])


@pytest.mark.parametrize("name", DIFFERENT)
def test_ranks_that_differ_are_told_so_on_all(name):
    told = on_threads(2, name)
    assert told[0] == told[1] and DIFFERENT[name] in told[0]["message"], told


def test_a_loss_that_is_no_number_is_the_same_error_on_all():
    told = on_threads(2, "diverges")
    assert told[0] == told[1] and told[0]["kind"] == "FloatingPointError"


@needs_mpi
def test_trouble_on_mpi_leaves_the_ranks_fit_for_the_next_program(on_mpi):
    names = [*TROUBLE, *DIFFERENT, "diverges", "interrupted", "stopped_by_one", "plain"]
    told = on_mpi(2, *names)
    for name, (kind, message) in TROUBLE.items():
        check_trouble(told[name], kind, message)
    for name, message in DIFFERENT.items():
        assert told[name][0] == told[name][1] and message in told[name][0]["message"]
    assert {rank["kind"] for rank in told["diverges"]} == {"FloatingPointError"}
    assert {rank["kind"] for rank in told["interrupted"]} == {"KeyboardInterrupt"}
    assert all("go on exactly here" in rank["message"] for rank in told["interrupted"])
    for name in ("interrupted", "plain"):
        assert np.abs(np.subtract(told[name][0]["weights"], in_one_process("plain")["weights"])).max() < 1e-12
    same_on_all(told["stopped_by_one"])


@needs_mpi
def test_a_rank_that_dies_ends_all(tmp_path):
    assert start(2, tmp_path, "dies").returncode != 0


# --- refused at once -------------------------------------------------------------------------------------------------
class OneRank:
    rank, size = 0, 1

    def Allreduce(self, send, receive):
        receive[...] = send

    def allgather(self, thing):
        return [thing]

    def bcast(self, thing, root=0):
        return thing


def mixed():
    return dn.Sequential(dn.Linear(6, 4, dtype=np.float32), dn.Linear(4, 3, dtype=np.float64))


@pytest.mark.parametrize("model, loss, message", [
    (lambda: rank_programs.network(norm="batch"), "cross_entropy", "is a BatchNorm1d.*LayerNorm"),
    (rank_programs.network, functools.partial(outputs.cross_entropy, reduction="sum"), "reduction='sum'"),
    (rank_programs.network, functools.partial(outputs.cross_entropy, weight=np.ones(3)), "class_weight"),
    (mixed, "cross_entropy", "float32 and float64"),
])
def test_what_has_no_shares_is_refused_before_anything_begins(model, loss, message):
    with pytest.raises(ValueError, match=message):
        dn.Trainer(model(), loss, parallel=OneRank())


def test_frozen_batch_normalization_has_shares():
    model = rank_programs.network(norm="batch")
    for module in model.modules():
        if isinstance(module, dn.layers.BatchNorm1d):
            module.requires_grad_(False)
    dn.Trainer(model, optimizer=dn.optimizers.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), parallel=OneRank())


@pytest.mark.parametrize("comm", [object(), 2, "mpi", True])
def test_what_is_no_communicator_is_refused(comm):
    with pytest.raises(TypeError, match="parallel must be a communicator such as mpi4py.MPI.COMM_WORLD"):
        dn.Trainer(rank_programs.network(), parallel=comm)


def test_a_copy_trains_alone():
    import copy
    import pickle

    run = dn.Trainer(rank_programs.network(), parallel=OneRank())
    for twin in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert twin.parallel is None and isinstance(twin._ranks, agreement.Alone)


# --- the pieces ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_those_of_array_split(rows, size):
    wanted = np.array_split(np.arange(rows), size)
    for rank in range(size):
        assert np.arange(rows)[shares.share(rows, rank, size)].tolist() == wanted[rank].tolist()


def test_what_a_row_counts_is_its_labels_or_its_weight():
    y = np.array([[0, -100], [-100, -100], [1, 2]])
    assert shares.loss_counts(outputs.cross_entropy, y).tolist() == [1, 0, 2]
    other = functools.partial(outputs.cross_entropy, ignore_index=0)
    assert shares.loss_counts(other, np.array([0, 1, 0])).tolist() == [0, 1, 0]
    assert shares.loss_counts(outputs.mse_loss, np.zeros(2), np.array([2.0, 0.0])).tolist() == [2, 0]


def test_the_digest_sees_values_dtypes_and_shapes():
    a = np.arange(4.0)
    others = [a + 1, a.astype("f"), a.reshape(2, 2), {"a": a}]
    assert len({agreement.digest(x) for x in [a, *others]}) == 5
    assert agreement.digest([a[::2]]) == agreement.digest([a[::2].copy()])


def test_simulate_hands_back_what_each_rank_found_and_raises_what_one_raised():
    assert simulate(3, lambda comm, base: base + comm.rank, 10) == [10, 11, 12]

    def program(comm):
        if comm.rank == 2:
            raise ZeroDivisionError("rank 2")
        comm.allgather(0)

    with pytest.raises(ZeroDivisionError, match="rank 2"):
        simulate(3, program)
    for size in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="simulate: size must be a positive integer"):
            simulate(size, print)
    with pytest.raises(TypeError, match="function of a communicator"):
        simulate(2, 3)
