"""Writes what a release leaves on disks, into tests/data/golden/VERSION, once: every later version must read it and go on from it.

    python tests/data/make_golden.py

A folder that is there is never written again: its files are what the release wrote.
"""
import json
import sys
from pathlib import Path

import numpy as np

import deepnotes
from deepnotes import callbacks, checkpoints, layers, optimizers, schedules
from deepnotes.training import Trainer
from deepnotes.training.loader import Loader


def data():
    "Thirty rows in three classes, exact in float32 on every machine."
    X = ((np.arange(90).reshape(30, 3) * 7) % 32 / 16 - 1).astype(np.float32)
    return X, np.arange(30) % 3


def model():
    "One of each layer that owns numbers."
    branch = layers.Residual(layers.Linear(8, 8, bias=False, rng=3), layers.PReLU(8), shortcut=layers.Linear(8, 8, rng=4), scale=0.5)
    return layers.Sequential(layers.Linear(3, 8, rng=0), layers.BatchNorm1d(8), layers.GELU(), layers.Dropout(0.2, rng=1), branch,
                             layers.LayerNorm(8), layers.Maxout(8, 6, 2, rng=2), layers.AlphaDropout(0.1, rng=5), layers.RMSNorm(6),
                             layers.LeakyReLU(0.1), layers.Linear(6, 3, rng=6))


class Cut(callbacks.Callback):
    "Ends the third epoch after two steps: the run stands in the middle."

    every = 2

    def on_train_batch_end(self, trainer, step):
        trainer.stop_training = trainer.stop_training or len(trainer.history) == 2


def run():
    network = model()
    network[0].bias.requires_grad = False
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = optimizers.AdamW([{"params": learning[:4], "lr": 0.01}, {"params": learning[4:], "weight_decay": 0.1}], lr=0.02,
                                 amsgrad=True)
    schedule = schedules.SequentialLR(optimizer, [schedules.LinearLR(optimizer, 0.1, total_iters=4),
                                                  schedules.StepLR(optimizer, 3, 0.5)], [4])
    return Trainer(network, optimizer=optimizer, seed=7, scheduler=schedule, scheduler_interval="step", clip_grad_norm=1.0,
                   capture=False)


def main():
    folder = Path(__file__).parent / "golden" / deepnotes.__version__
    if folder.exists():
        sys.exit(f"{folder} is there: what a release wrote is never written again")
    folder.mkdir(parents=True)
    X, y = data()
    trainer, stopper = run(), callbacks.EarlyStopping("loss", patience=9)

    class Save(Cut):
        def on_train_batch_end(self, trainer, step):
            super().on_train_batch_end(trainer, step)
            if trainer.stop_training:
                trainer.save(folder / "run.safetensors")

    trainer.fit(X, y, epochs=3, batch_size=8, callbacks=[stopper, Save()], progress=False)
    tree = checkpoints.load(folder / "run.safetensors")
    checkpoints.save_weights(tree["model"]["state"], folder / "weights.safetensors")
    arrays = {}
    plain = checkpoints._pack(tree, "", arrays)
    (folder / "run.json").write_text(json.dumps(plain, indent=1) + "\n")
    np.savez_compressed(folder / "arrays.npz", **arrays)
    trainer = Trainer.load(folder / "run.safetensors", capture=False)
    outputs = trainer.forward(X)
    trainer.fit(X, y, epochs=2, batch_size=8, progress=False)
    orders = [{"examples": n, "seed": seed, "epoch": epoch, "order": Loader(np.zeros((n, 1)), np.zeros(n), seed=seed).order(epoch).tolist()}
              for n, seed, epoch in ((30, 7, 0), (30, 7, 1), (30, 8, 0), (101, 0, 12))]
    told = {"orders": orders, "outputs": outputs.astype(float).tolist(), "losses": trainer.history["loss"]}
    (folder / "expected.json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
