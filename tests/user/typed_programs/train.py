"""A user's program: data, a network of one's own, a schedule, callbacks, a checkpoint, a figure's numbers."""

import tempfile
from pathlib import Path

import numpy as np

import deepnotes as dn

data = dn.datasets.make_moons(200, noise=0.1, rng=0)
train, test = data.split(test_size=0.25, rng=0, stratify=True)


class Classifier(dn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = dn.Sequential(dn.Linear(2, width, activation="relu", rng=0), dn.layers.LayerNorm(width), dn.layers.Dropout(0.1, rng=0))
        self.head = dn.Linear(width, 2, rng=1)

    def forward(self, x):
        return self.head(self.body(x))


model = Classifier(16)
optimizer = dn.optimizers.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
schedule = dn.schedules.CosineAnnealingLR(optimizer, T_max=20)
stop = dn.callbacks.EarlyStopping("val_loss", patience=5)
trainer = dn.Trainer(model, "cross_entropy", optimizer, seed=0, scheduler=schedule, clip_grad_norm=1.0)
history = trainer.fit(train.X, train.y, epochs=20, batch_size=32, validation=(test.X, test.y), callbacks=[stop], progress=False)
assert history["loss"][-1] < history["loss"][0]
assert trainer.predict(test.X).shape[0] == len(test.X)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "moons.safetensors"
    trainer.save(path)
    assert len(dn.Trainer.load(path, model=Classifier(16)).history) == len(history)
    weights = Path(folder) / "weights.safetensors"
    dn.checkpoints.save_weights(model, weights)
    model.load_state_dict(dn.checkpoints.load_weights(weights))
print(f"accuracy {trainer.score(test.X, test.y):.2f} after {len(history)} epochs", np.mean(history["loss"]))
