"""Ranks: `python benchmarks/bench_ranks.py`. One training on one and on two processes, and the messages between them."""
import _harness

chosen = _harness.options(__doc__)

import json  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from importlib import metadata, util  # noqa: E402
from pathlib import Path  # noqa: E402

# On one machine two processes share memory and a cache; that they halve a long step is all that can be asked of them.
TARGETS = {("step of one training, strong", "1 rank", ("batch 4096",)): {"worst": 0.65}, "cut in two": {"worst": 1.15}}
HERE = Path(__file__).resolve().parent


def once(ranks):
    "What so many ranks measured, each on one thread"
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    done = subprocess.run([mpiexec, "-n", str(ranks), sys.executable, str(HERE / "_ranks.py")], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def in_turns(rounds):
    "The best of some rounds, in which one rank and two take turns: whoever waits for a busy core shows nothing of the program"
    best = {1: {}, 2: {}}
    for _ in range(rounds):
        for ranks, table in best.items():
            for kind, times in once(ranks).items():
                known = table.setdefault(kind, times)
                table[kind] = {case: min(seconds, known[case]) for case, seconds in times.items()}
    return best


def measured():
    best = in_turns(max(2, chosen.rounds // 10))
    one, two = best[1], best[2]
    for batch, seconds in one["step"].items():
        yield "step of one training, strong", f"batch {batch}", "s", {"2 ranks": two["step"][batch], "1 rank": seconds}
    for batch, seconds in one["step"].items():
        yield "step of one training, weak", f"{batch} rows a rank", "s", {"2 ranks": two["step"][str(2 * int(batch))], "1 rank": seconds}
    for batch in one["step"]:
        yield "cut in two", f"batch {batch}", "s", {"1 rank": one["step"][batch], "one process": one["whole step"][batch]}
    for size in two["message"]:
        yield "sum over two ranks", f"{size} bytes", "s", {"2 ranks": two["message"][size]}


if __name__ == "__main__":
    if util.find_spec("mpi4py") is None:
        sys.exit("Error: mpi4py cannot be imported here: pip install 'deepnotes[mpi]'.")
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "mpi4py", "mpich")}
    if chosen.threads == 1:
        _harness.run("ranks", (), chosen, versions, TARGETS,
                     (row for row in measured() if chosen.only in f"{row[0]} {row[1]}"))
