"""Programs for ranks, functions of a communicator: on threads, and on MPI by `mpiexec -n 2 python rank_programs.py FOLDER NAME …`."""

import hashlib
import inspect
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import deepnotes as dn
from deepnotes import outputs

ROWS, BATCH = 50, 16  # batches of 16, 16, 16 and 2: three ranks have unequal shares, and one has none of the last


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 6))
    return X, (X[:, :3].sum(axis=1) > 0).astype(np.int64) + (X[:, 3] > 1)


def network(dropout=0.0, dtype=np.float64, **more):
    return dn.MLP(6, [12, 8], 3, rng=0, dtype=dtype, dropout=dropout, **more)


def told(trainer, **more):
    """What must be equal on all ranks, and near to one process."""
    weights = np.concatenate([p.data.ravel() for p in trainer.model.parameters()])
    state = {name: array for name, array in trainer.model.state_dict().items() if "state" in name}
    return {"weights": weights.tolist(), "digest": hashlib.sha256(weights.tobytes()).hexdigest(), "epochs": len(trainer.history),
            "history": {name: list(map(float, column)) for name, column in trainer.history.columns.items()},
            "streams": [list(map(int, s)) for s in state.values()], **more}


def fit(comm, *, model=None, loss="cross_entropy", optimizer=None, epochs=2, targets=None, trainer=(), **more):
    X, y = data()
    model = model or network()
    run = dn.Trainer(model, loss, optimizer(model.parameters()) if optimizer else None, parallel=comm, **dict(trainer))
    run.fit(X, y if targets is None else targets(y), epochs=epochs, batch_size=BATCH, progress=False, **more)
    return run


# --- equal to one process --------------------------------------------------------------------------------------------
def plain(comm=None):
    run = fit(comm, epochs=3)
    return told(run, captured=run._step.captured, reason=run._step.reason)


def eager(comm=None):
    return told(fit(comm, trainer={"capture": False}))


def dropped(comm=None):
    return told(fit(comm, model=network(dropout=0.3)))


def clipped(comm=None):
    return told(fit(comm, trainer={"clip_grad_norm": 0.05, "clip_grad_value": 0.02},
                    optimizer=lambda p: dn.optimizers.SGD(p, lr=0.5, momentum=0.9, weight_decay=0.01)))


def weighted(comm=None):
    weight = np.random.default_rng(1).exponential(size=ROWS)
    weight[::7] = 0
    return told(fit(comm, sample_weight=weight, class_weight="balanced"))


def ignored(comm=None):
    """Labels that do not count are spread unevenly over the shares, and fill some."""
    return told(fit(comm, targets=lambda y: np.where(np.arange(ROWS) % 2 == 0, -100, y)))


def squares(comm=None):
    X, y = data()
    model = dn.MLP(6, [12], 2, rng=0, dtype=np.float64)
    run = dn.Trainer(model, "mse_loss", metrics="r2_score", parallel=comm)
    run.fit(X, X[:, :2] * y[:, None], epochs=2, batch_size=BATCH, progress=False, validation=(X[:20], X[:20, :2]))
    return told(run)


def binary(comm=None):
    X, y = data()
    model = dn.MLP(6, [12], 1, rng=0, dtype=np.float64)
    run = dn.Trainer(model, "binary_cross_entropy_with_logits", parallel=comm)
    run.fit(X, (y > 0).astype(float)[:, None], epochs=2, batch_size=BATCH, progress=False)
    return told(run)


def scheduled(comm=None):
    model = network()
    optimizer = dn.optimizers.Adam(model.parameters(), lr=0.05)
    schedule = dn.schedules.CosineAnnealingLR(optimizer, 8)
    return told(fit(comm, model=model, optimizer=lambda _: optimizer, trainer={"scheduler": schedule, "scheduler_interval": "step"}))


def own_loss(comm=None):
    return told(fit(comm, loss=lambda out, y: outputs.cross_entropy(out, y) + 0.01 * (out * out).mean()))


def single_precision(comm=None):
    return told(fit(comm, model=network(dtype=np.float32)))


def streamed(comm=None):
    X, y = data()
    pairs = [(X[k:k + BATCH], y[k:k + BATCH]) for k in range(0, ROWS, BATCH)]
    run = dn.Trainer(network(), parallel=comm)
    run.fit(dn.Loader(pairs), epochs=2, progress=False)
    return told(run)


class Partly(dn.Module):
    """The second layer is never used: it has no gradient, and nothing may move it."""

    def __init__(self):
        self.first, self.second = (dn.Linear(6, 3, rng=k, dtype=np.float64) for k in (0, 1))

    def forward(self, x):
        return self.first(x)


def unreached(comm=None):
    run = fit(comm, model=Partly(), optimizer=lambda p: dn.optimizers.AdamW(p, weight_decay=0.5))
    return told(run, second=run.model.second.weight.data.ravel().tolist())


# --- stopping, saving, going on --------------------------------------------------------------------------------------
def stops_early(comm=None):
    X, y = data()
    stop = dn.callbacks.EarlyStopping(patience=1, min_delta=0.05)
    run = fit(comm, epochs=12, validation=(X[:20], y[:20]), callbacks=stop)
    return told(run, best=stop.best_epoch)


class StopsOn(dn.callbacks.Callback):
    """One rank wants to stop, in the middle of an epoch."""

    every = 2

    def __init__(self, rank):
        self.rank = rank

    def on_train_batch_end(self, trainer, step):
        if trainer._ranks.rank == self.rank and len(trainer.history) == 1:
            trainer.stop_training = True


def stopped_by_one(comm=None):
    run = fit(comm, epochs=5, callbacks=StopsOn(comm.size - 1))
    return told(run, position=run._position["step"])


def saves(comm, folder):
    """An epoch and a half, kept by rank 0 alone."""
    path = Path(folder) / "run.safetensors"
    fit(comm, model=network(dropout=0.3), epochs=2, callbacks=[dn.callbacks.Checkpoint(path, every=2), HalfWay()])
    return {"written": sorted(os.listdir(folder)) if comm.rank == 0 else None}


class HalfWay(dn.callbacks.Callback):
    every, last = 2, True

    def on_train_batch_end(self, trainer, step):
        trainer.stop_training = len(trainer.history) == 1


def goes_on(comm, folder):
    X, y = data()
    run = dn.Trainer.load(Path(folder) / "run.safetensors", parallel=comm)
    run.fit(X, y, epochs=1, batch_size=BATCH, progress=False)
    return told(run)


def begins_apart(comm):
    """Each rank has drawn other weights: those of rank 0 count."""
    model = dn.MLP(6, [12, 8], 3, rng=comm.rank, dtype=np.float64)
    return told(fit(comm, model=model, epochs=3))


# --- what goes wrong on one rank -------------------------------------------------------------------------------------
def caught(program):
    try:
        program()
    except BaseException as error:
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": None, "message": ""}


class Trouble(dn.Module):
    """Does something to one rank at its third batch."""

    def __init__(self, comm, rank, what):
        self.inner, self.calls = network(), 0
        self.comm, self.rank, self.what = [comm], rank, what

    def forward(self, x):
        self.calls += 1
        if self.calls == 3 and self.comm[0].rank == self.rank:
            self.what(self)
        return self.inner(x)


def raises(model):
    raise ArithmeticError("the third batch is odd.")


def fails_in_a_step(comm):
    model = Trouble(comm, comm.size - 1, raises)
    return caught(lambda: fit(comm, model=model))


class Refuses(dn.callbacks.Callback):
    def on_epoch_end(self, trainer, row):
        if trainer._ranks.rank == 1:
            raise LookupError("no such thing.")


def fails_in_a_callback(comm):
    return caught(lambda: fit(comm, callbacks=Refuses()))


def cannot_write(comm, folder):
    return caught(lambda: fit(comm, callbacks=dn.callbacks.Checkpoint(Path(folder) / "nowhere" / "run.safetensors")))


def has_a_hole(comm):
    X, y = data()
    X[3, 3] = np.nan if comm.rank == 1 else 0
    return caught(lambda: dn.Trainer(network(), parallel=comm).fit(X, y, progress=False))


def has_other_rows(comm):
    X, y = data(ROWS + comm.rank)
    return caught(lambda: dn.Trainer(network(), parallel=comm).fit(X, y, progress=False))


def has_another_stream(comm):
    X, y = data()
    pairs = [(X[k:k + 9 + comm.rank], y[k:k + 9 + comm.rank]) for k in range(3)]
    return caught(lambda: dn.Trainer(network(), parallel=comm).fit(dn.Loader(pairs), progress=False))


def diverges(comm):
    return caught(lambda: fit(comm, optimizer=lambda p: dn.optimizers.SGD(p, lr=1e200)))


class Counts(dn.Module):
    """An array that each rank changes in its own way."""

    def __init__(self):
        self.inner = network()
        self.register_buffer("seen", np.zeros(1))

    def forward(self, x):
        self.seen += x.data[0, 0]
        return self.inner(x)


def drifts(comm):
    return caught(lambda: fit(comm, model=Counts()))


def interrupted(comm):
    """Ctrl-C reaches one rank in the middle of a step; all stop there, and go on to where one process gets."""
    model = Trouble(comm, comm.size - 1, lambda model: os.kill(os.getpid(), signal.SIGINT))
    run = dn.Trainer(model, parallel=comm)
    X, y = data()
    first = caught(lambda: run.fit(X, y, epochs=3, batch_size=BATCH, progress=False))
    run.fit(X, y, epochs=3 - len(run.history), batch_size=BATCH, progress=False)
    return told(run, **first)


def dies(comm):
    model = Trouble(comm, 1, lambda model: os._exit(7))
    fit(comm, model=model)
    return {}


def main(folder, *names):
    """Run several programs, one after the other: what went wrong in one must leave the ranks fit for the next."""
    from mpi4py import MPI

    comm, results = MPI.COMM_WORLD, {}
    for name in names:
        results[name] = comm.gather(call(name, comm, folder), root=0)
    if comm.rank == 0:
        print(json.dumps(results))


def call(name, comm, folder):
    program = globals()[name]
    if "folder" not in inspect.signature(program).parameters:
        return program(comm)
    return program(comm, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
