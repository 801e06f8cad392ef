"""Starting: `python benchmarks/bench_startup.py`. What `import` and a first step cost a fresh process."""
import _harness

chosen = _harness.options(__doc__)

import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from importlib import metadata  # noqa: E402

TARGETS = {"import": {"worst": 1.2}, "first step, warm cache": {"value": 0.6}, "first step, empty cache": {"value": 15}}
OURS = """
import numpy as np
from deepnotes.autograd import Tensor
rng = np.random.default_rng(0)
x, w = rng.standard_normal((4, 8), dtype=np.float32), rng.standard_normal((8, 3), dtype=np.float32)
((Tensor(x) @ Tensor(w, requires_grad=True)).tanh() * 0.5).sum().backward()
"""
THEIRS = """
import numpy as np
import torch
rng = np.random.default_rng(0)
x, w = rng.standard_normal((4, 8), dtype=np.float32), rng.standard_normal((8, 3), dtype=np.float32)
((torch.tensor(x) @ torch.tensor(w, requires_grad=True)).tanh() * 0.5).sum().backward()
"""


def process(program, folder):
    "Seconds from the start of a process to its end"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "DEEPNOTES_CACHE_DIR": folder})
    return time.perf_counter() - start


def in_turns(programs, folder, rounds):
    "Median seconds of each program above those of a process that does nothing"
    times = {name: [] for name in programs}
    for _ in range(rounds):
        empty = process("", folder)
        for name, program in programs.items():
            times[name].append(process(program, folder) - empty)
    return {name: statistics.median(t) for name, t in times.items()}


def measured():
    rounds = max(3, chosen.rounds // 4)
    with tempfile.TemporaryDirectory() as folder:
        cold = os.path.join(folder, "cold")
        yield "first step, empty cache", "forward and backward", "s", {"deepnotes": process(OURS, cold)}
        yield ("import", "import", "s",
               in_turns({"deepnotes": "from deepnotes import Tensor", "numba": "import numba", "numpy": "import numpy",
                         "torch": "import torch"}, cold, rounds))
        yield ("first step, warm cache", "forward and backward", "s",
               in_turns({"deepnotes": OURS, "torch": THEIRS}, cold, rounds))


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "numba", "torch")}
    _harness.run("startup", (), chosen, versions, TARGETS,
                 (row for row in measured() if chosen.only in f"{row[0]} {row[1]}"))
