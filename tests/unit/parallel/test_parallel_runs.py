"""Many runs: the same bits wherever they are done, nothing lost when a worker dies, and a table that says what each row was."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import distributed
import numpy as np
import pandas
import pytest

import deepnotes as dn
from deepnotes.parallel import RunFailed, Runs, sweep
from deepnotes.training import checkpoints


def train(seed, width, rate=0.1):
    X, y = dn.datasets.make_moons(60, rng=seed)
    model = dn.MLP(2, [width], 2, rng=seed)
    trainer = dn.Trainer(model, loss="cross_entropy", optimizer=dn.optimizers.SGD(model.parameters(), lr=rate), seed=seed)
    history = trainer.fit(X, y, epochs=3, batch_size=16, progress=False)
    return {"loss": history["loss"][-1], "losses": history["loss"], "weights": model.parameters()[0].numpy()}


def drawn(seed, scale=1.0):
    return {"mean": scale * np.random.default_rng(seed).normal(size=5).mean()}


def dies_once(seed, marks):
    "The worker of seed 3 ends without a word, the first time."
    mark = Path(marks) / "died"
    if seed == 3 and not mark.exists():
        mark.write_text("")
        os._exit(1)
    return drawn(seed)


def always_dies(seed, parent):
    if os.getpid() != parent:
        os._exit(1)
    return {}


def refuses(seed, least):
    if seed >= least:
        raise ArithmeticError(f"seed {seed} is too large")
    return {"seed_seen": seed}


# --- one result, wherever it is computed ----------------------------------------------------------------------------------------
def test_processes_give_the_bits_of_the_loop_in_the_order_asked_for():
    here = sweep(train, {"width": [4, 9]}, seeds=2)
    assert sweep(train, {"width": [4, 9]}, seeds=2, workers=2) == here
    assert list(here["width"]) == [4, 4, 9, 9] and list(here["seed"]) == [0, 1, 0, 1]
    alone = train(1, 9)  # and those of a plain call
    assert here[3]["losses"] == alone["losses"] and here[3]["weights"].tobytes() == alone["weights"].tobytes()


def test_a_cluster_gives_the_bits_of_the_loop():
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            assert sweep(drawn, {"scale": [1.0, 3.0]}, seeds=4, client=client) == sweep(drawn, {"scale": [1.0, 3.0]}, seeds=4)
            with pytest.raises(RunFailed, match="seed 2, least=2 raised ArithmeticError"):
                sweep(refuses, [{"least": 2}], seeds=3, client=client)


def test_each_run_has_one_core_and_the_caller_keeps_his():
    dn.kernels.set_num_threads(2)
    assert sweep(lambda seed: {"cores": dn.kernels.get_num_threads()}, seeds=1)["cores"][0] == 1
    assert dn.kernels.get_num_threads() == 2
    with pytest.raises(RunFailed):
        sweep(refuses, [{"least": 0}], seeds=1)
    assert dn.kernels.get_num_threads() == 2


# --- nothing is lost ------------------------------------------------------------------------------------------------------------
def test_the_runs_of_a_dead_worker_are_done_again(tmp_path):
    assert sweep(dies_once, [{"marks": str(tmp_path)}], seeds=6, workers=2)["mean"].tolist() == sweep(drawn, seeds=6)["mean"].tolist()
    assert (tmp_path / "died").exists()


def test_a_run_that_always_kills_its_worker_is_named():
    with pytest.raises(RunFailed, match=r"no run was finished, 1 times in a row; 1 missing, the first with seed 7, parent=") as caught:
        sweep(always_dies, [{"parent": os.getpid()}], seeds=[7], workers=2, retries=0)
    assert caught.value.seed == 7 and len(caught.value.finished) == 0


def test_an_error_names_its_run_and_hands_back_what_is_done():
    with pytest.raises(RunFailed, match="seed 2, least=2 raised ArithmeticError: seed 2 is too large") as caught:
        sweep(refuses, [{"least": 2}], seeds=5)
    assert caught.value.setting == {"least": 2} and list(caught.value.finished["seed"]) == [0, 1]
    assert isinstance(caught.value.__cause__, ArithmeticError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.seed) == (str(caught.value), 2)
    with pytest.raises(RunFailed, match="seed 1, least=1 raised ArithmeticError"):
        sweep(refuses, [{"least": 1}], seeds=2, workers=2)


def test_a_sweep_cut_off_goes_on_in_its_folder(tmp_path):
    seen = []

    def counted(seed, scale):
        seen.append((scale, seed))
        return {**drawn(seed, scale), "values": np.float32([seed, np.nan]), "nested": {"scale": [scale, None, "x"]}}

    whole = sweep(counted, {"scale": [1.0, 2.0]}, seeds=3)
    seen.clear()
    sweep(counted, {"scale": [1.0]}, seeds=2, folder=tmp_path / "kept")
    assert sweep(counted, {"scale": [1.0, 2.0]}, seeds=3, folder=tmp_path / "kept") == whole
    assert seen == [(1.0, 0), (1.0, 1), (1.0, 2), (2.0, 0), (2.0, 1), (2.0, 2)]  # each once
    assert sweep(counted, {"scale": [2.0, 1.0]}, seeds=[2], folder=tmp_path / "kept")["scale"].tolist() == [2.0, 1.0]
    assert sweep(counted, {"scale": [1.0]}, seeds=1, folder=tmp_path / "kept").columns == whole.columns == [
        "scale", "seed", "mean", "values", "nested"]
    assert len(seen) == 6


def test_a_kill_in_the_middle_leaves_whole_files(tmp_path):
    program = (f"import os, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_parallel_runs import ended\n"
               f"from deepnotes.parallel import sweep\n"
               f"sweep(ended, [{{'folder': {str(tmp_path)!r}}}], seeds=4, folder={str(tmp_path / 'kept')!r})")
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert sweep(ended, [{"folder": str(tmp_path)}], seeds=4, folder=tmp_path / "kept")["seed"].tolist() == [0, 1, 2, 3]


def ended(seed, folder):
    mark = Path(folder) / "ended"
    if seed == 2 and not mark.exists():
        mark.write_text("")
        os._exit(9)
    return {}


def test_a_folder_of_another_program_is_refused(tmp_path):
    def run(seed):
        return {"a": 1}

    sweep(run, seeds=1, folder=tmp_path)

    def run(seed):
        return {"a": 2}

    with pytest.raises(ValueError, match="Name another folder"):
        sweep(run, seeds=1, folder=tmp_path)
    kept = next(tmp_path.iterdir())
    checkpoints.save({"other": 1}, kept)
    with pytest.raises(ValueError, match="is not a run that a sweep has kept"):
        sweep(run, seeds=1, folder=tmp_path)
    kept.write_bytes(b"nothing of ours")
    with pytest.raises(ValueError):
        sweep(run, seeds=1, folder=tmp_path)


# --- the table ------------------------------------------------------------------------------------------------------------------
def test_the_table_has_columns_rows_parts_and_a_frame():
    runs = sweep(drawn, {"scale": [1.0, 2.0]}, seeds=[5, 3])
    assert runs.columns == ["scale", "seed", "mean"] and len(runs) == 4 and runs[1]["seed"] == 3
    assert np.array_equal(runs.where(scale=2.0)["mean"], 2 * runs.where(scale=1.0)["mean"])
    assert isinstance(runs[1:], Runs) and len(runs[1:]) == 3
    assert runs.to_frame().equals(pandas.DataFrame(list(runs))) and runs.to_frame().shape == (4, 3)
    assert runs == pickle.loads(pickle.dumps(runs)) and runs != runs[:3]
    assert Runs([{"a": 1.0}]) != Runs([{"a": np.float64(1.0)}]) and Runs([{"a": np.nan}]) == Runs([{"a": np.nan}])
    assert repr(runs) == "Runs(4 rows: scale, seed, mean)"
    with pytest.raises(KeyError, match="scale, seed, mean"):
        runs["accuracy"]
    with pytest.raises(KeyError, match="no column 'rate'"):
        runs.where(rate=1)
    assert Runs([{"a": 1}, {"b": "x"}])["b"] == [None, "x"]


# --- what is refused, before anything runs -----------------------------------------------------------------------------------------
def never(seed, **setting):
    raise AssertionError("nothing may run")


@pytest.mark.parametrize(("arguments", "error", "message"), [
    (dict(seeds=[]), ValueError, "different integers"),
    (dict(seeds=[1, 1]), ValueError, "different integers"),
    (dict(seeds=[-1]), ValueError, "got -1"),
    (dict(seeds=[True]), ValueError, "got True"),
    (dict(seeds=[0.5]), ValueError, "got 0.5"),
    (dict(settings={"rate": 0.1}), TypeError, "'rate' is 0.1"),
    (dict(settings={"name": "adam"}), TypeError, "'name' is 'adam'"),
    (dict(settings=[{"seed": 1}]), ValueError, "not 'seed'"),
    (dict(workers=0), ValueError, "got 0"),
    (dict(workers=True), ValueError, "got True"),
    (dict(workers=1.5), ValueError, "got 1.5"),
])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        sweep(never, **arguments)


@pytest.mark.parametrize(("result", "error", "message"), [
    (0.5, TypeError, "gave 0.5"),
    ({"model": dn.MLP(2, [2], 2, rng=0)}, TypeError, r"result\['model'\]"),
    ({"x": [1, {"y": object()}]}, TypeError, r"result\['x'\]\[1\]\['y'\]"),
    ({"x": np.array(["a"])}, TypeError, r"result\['x'\]"),
    ({"rate": 1.0}, ValueError, "'rate' is the name of a setting and of a result"),
])
def test_results_that_are_not_plain(result, error, message):
    with pytest.raises(error, match=message):
        sweep(lambda seed, rate: result, [{"rate": 1}], seeds=1)


def test_a_setting_without_a_text_cannot_be_kept(tmp_path):
    assert len(sweep(lambda seed, make: {}, [{"make": dn.optimizers.SGD}], seeds=1)) == 1
    with pytest.raises(TypeError, match="to be kept in a folder"):
        sweep(lambda seed, make: {}, [{"make": dn.optimizers.SGD}], seeds=1, folder=tmp_path)


def test_numbers_become_plain_where_they_are_computed():
    row = sweep(lambda seed: {"a": np.float32(0.1), "b": np.bool_(True), "c": dn.Tensor([1.0]), "d": np.array(2)}, seeds=1)[0]
    assert type(row["a"]) is float and row["a"] == float(np.float32(0.1)) and row["b"] is True
    assert type(sweep(drawn, seeds=1)[0]["mean"]) is float  # a numpy float64 is a float, too
    assert isinstance(row["c"], np.ndarray) and row["d"] == 2 and type(row["d"]) is int
