"""The walk of one value: how many Python calls inside the library, and changes from one file to another, a step and a fit take.

    python tools/walk.py            three numbers, each as calls / changes of file
    python tools/walk.py --by 30    and which functions they are, the most frequent first

Counts, not times: they tell how much stands between a reader who follows `Trainer.fit` in a debugger and the kernel. The model is
small (8-16-3, two batches of 32), so that what is counted is the machinery. Run it twice: the first process of a machine compiles.
"""

import argparse
import gc
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import deepnotes as dn

LIBRARY = str(Path(dn.__file__).parent)


def calls_of(function):
    "Each call of a function of the library, or of one that it wrote: (file, name), in order."
    found = []

    def note(frame, event, _):
        file = frame.f_code.co_filename
        if event == "call" and (file.startswith(LIBRARY) or file.startswith("<deepnotes")):
            found.append((file.removeprefix(LIBRARY).lstrip("/\\"), frame.f_code.co_name))

    gc.disable()                                     # what it frees calls back, whenever it comes
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


def changes_of_file(calls):
    return sum(before[0] != after[0] for before, after in zip(calls, calls[1:], strict=False))


def walks():
    "The calls of a step without a Trainer, of a Trainer's first fit and of its second, by name."
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 8)).astype(np.float32), rng.integers(0, 3, 64)
    model = dn.MLP(8, [16], 3, rng=0)
    optimizer = dn.optimizers.Adam(model.parameters())

    def step():
        optimizer.zero_grad()
        dn.outputs.cross_entropy(model(dn.Tensor(X[:32])), y[:32]).backward()
        optimizer.step()

    for _ in range(3):
        step()
    trainer = dn.Trainer(dn.MLP(8, [16], 3, rng=0))
    return {"eager step": calls_of(step), "first fit": calls_of(lambda: trainer.fit(X, y, epochs=1, progress=False)),
            "later fit": calls_of(lambda: trainer.fit(X, y, epochs=1, progress=False))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--by", type=int, default=0, metavar="N", help="the N most frequent functions of each, too")
    options = parser.parse_args()
    for name, calls in walks().items():
        print(f"{name}: {len(calls):,} calls / {changes_of_file(calls):,} changes of file")
        for (file, function), times in Counter(calls).most_common(options.by):
            print(f"{times:7} {file} {function}")


if __name__ == "__main__":
    main()
