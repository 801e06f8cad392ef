"""The library learns: real data, ten seeds, the number that the index chapter claims."""
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import deepnotes as dn


def test_digits_mean_accuracy_over_ten_seeds():
    images, labels = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(images / 8 - 1, labels, random_state=0, test_size=0.25)

    def accuracy(seed):
        trainer = dn.Trainer(dn.MLP(64, [128], 10, activation="relu", rng=seed), loss="cross_entropy", seed=seed)
        trainer.fit(X, y, epochs=40, batch_size=32, progress=False)
        return trainer.score(X_test, y_test)

    accuracies = [accuracy(seed) for seed in range(10)]
    assert np.mean(accuracies) >= 0.964, accuracies
    assert min(accuracies) >= 0.95, accuracies
