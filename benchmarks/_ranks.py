"""One rank of bench_ranks: `mpiexec -n 2 python benchmarks/_ranks.py`. Rank 0 writes seconds as JSON, best of a few turns."""

import json
import time

import numpy as np
from mpi4py import MPI

import deepnotes as dn

BATCHES, SIZES, TURNS = (16, 64, 256, 1024, 4096), (8, 1024, 131_072, 1_048_576, 4_194_304), 5
comm = MPI.COMM_WORLD


def best(call):
    """Seconds of the shortest of a few calls, which all ranks begin together; the slowest rank counts."""
    found = []
    for _ in range(TURNS):
        comm.Barrier()
        begin = time.perf_counter()
        call()
        found.append(comm.allreduce(time.perf_counter() - begin, op=MPI.MAX))
    return min(found)


def step(batch, parallel):
    """Seconds of a step of 784-256-128-10 with Adam, as `Trainer.fit` takes it."""
    steps = max(4, min(40, 8192 // batch))
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(steps * batch, 784)).astype("float32"), rng.integers(0, 10, steps * batch)
    trainer = dn.Trainer(dn.MLP(784, [256, 128], 10, rng=0), parallel=parallel)
    trainer.fit(X, y, epochs=1, batch_size=batch, progress=False)
    return best(lambda: trainer.fit(X, y, epochs=1, batch_size=batch, progress=False)) / steps


def message(size):
    """Seconds of a sum of so many bytes over all ranks."""
    array, total = np.zeros(size // 8), np.zeros(size // 8)
    many = max(3, min(200, 2**22 // size))
    return best(lambda: [comm.Allreduce(array, total) for _ in range(many)]) / many


if __name__ == "__main__":
    batches = sorted({*BATCHES, *(comm.size * batch for batch in BATCHES)})   # the same work for each rank, too
    found = {"step": {str(batch): step(batch, comm) for batch in batches}, "message": {str(size): message(size) for size in SIZES}}
    if comm.size == 1:
        found["whole step"] = {str(batch): step(batch, None) for batch in BATCHES}
    if comm.rank == 0:
        print(json.dumps(found))
