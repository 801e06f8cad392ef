"""Many small networks: `python benchmarks/bench_stacks.py`. On one program, by one fit each, and stacked by JAX's `vmap`."""
import _harness

chosen = _harness.options(__doc__)

import importlib.util  # noqa: E402
import os  # noqa: E402

if hasattr(os, "sched_setaffinity"):                            # JAX's threads wait by computing: on one core they cannot
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:chosen.threads])
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import time  # noqa: E402
from importlib import metadata  # noqa: E402

import _peers  # noqa: E402
import numpy as np  # noqa: E402

import deepnotes as dn  # noqa: E402
from deepnotes import kernels  # noqa: E402

kernels.set_num_threads(chosen.threads)
BATCH, EPOCHS = 32, 20
DIGITS, WIDE = (64, 32, 10), (784, 256, 128, 10)
TARGETS = {("100 networks", "single fits"): {"worst": 0.5}, ("100 networks", "jax.vmap"): {"worst": 1.0}}
notes = {}


def build(sizes, seed):
    model = dn.MLP(sizes[0], list(sizes[1:-1]), sizes[-1], rng=seed)
    return dn.Trainer(model, optimizer=dn.optimizers.Adam(model.parameters(), lr=_peers.LR), seed=seed)


def stacked(sizes, k, X, y, epochs):
    members = dn.parallel.stack(lambda seed: build(sizes, seed), seeds=k)
    members.fit(X, y, epochs=epochs, batch_size=BATCH, progress=False)
    assert members.stacked, members.reason
    return members.curves("loss")


def single(sizes, k, X, y, epochs):
    return np.array([build(sizes, seed).fit(X, y, epochs=epochs, batch_size=BATCH, progress=False)["loss"] for seed in range(k)])


def vmapped(sizes, k, X, y, epochs):
    "A function that trains k networks of the same weights on the same rows: an epoch of all is one jitted program, compiled before."
    import jax
    import jax.numpy as jnp

    run = jax.jit(jax.vmap(_peers.jax_scan(sizes, BATCH), in_axes=(0, None, None, 0)), donate_argnums=0)
    models = [build(sizes, seed).model for seed in range(k)]
    linear = [[m for m in model.children() if hasattr(m, "weight")] for model in models]
    weights = [tuple(np.stack([layers[i].state_dict()[name] for layers in linear]) for name in ("weight", "bias"))
               for i in range(len(sizes) - 1)]
    orders = [np.stack([np.random.default_rng((seed, epoch)).permutation(len(X)) for seed in range(k)]).astype(np.int32)
              for epoch in range(epochs)]                                       # theirs are drawn outside the clock
    sizes_of = np.minimum(BATCH, len(X) - np.arange(0, len(X), BATCH))
    X, y = jnp.array(X), jnp.array(y)

    def fits():
        params = jax.tree.map(jnp.array, weights)
        state = params, jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params), jnp.zeros(k, jnp.float32)
        losses = []
        for order in orders:
            state, found = run(state, X, y, order)
            losses.append(np.asarray(found) @ sizes_of / len(X))
        return np.stack(losses, axis=1)

    return fits


def in_turns(peers, rounds):
    "Processor time of each, the best of rounds in which they take turns: what waits for a busy core shows nothing of the program."
    best = dict.fromkeys(peers, np.inf)
    for _ in range(rounds):
        for name, call in peers.items():
            began = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - began)
    return best


def measured():
    digits, rng = dn.datasets.load_digits(), np.random.default_rng(0)
    images = rng.standard_normal((1024, 784), dtype=np.float32), rng.integers(0, 10, 1024)
    for k, sizes, (X, y), epochs in [(100, DIGITS, (digits.X, digits.y), EPOCHS), (10, DIGITS, (digits.X, digits.y), EPOCHS),
                                     (10, WIDE, images, 5)]:
        group, case = f"{k} networks", f"{'-'.join(map(str, sizes))}, {epochs} epochs of {len(X):,} rows"
        if chosen.only not in f"{group} {case}":
            continue
        peers = {name: lambda call=call, k=k, sizes=sizes, X=X, y=y, epochs=epochs: call(sizes, k, X, y, epochs)
                 for name, call in (("deepnotes.parallel.stack", stacked), ("single fits", single))}
        cold = {}
        if importlib.util.find_spec("jax") is None:
            notes["no jax.vmap"] = "jax is not installed"
        else:
            peers["jax.vmap"] = vmapped(sizes, k, X, y, epochs)
        losses = {}
        for name, call in peers.items():
            began = time.process_time()
            losses[name] = call()
            cold[name] = time.process_time() - began
        first, *others = losses.values()
        for other in others:                                    # the same weights, rows and order: a first epoch of the same loss
            np.testing.assert_allclose(other[:, 0], first[:, 0], rtol=1e-3)
        yield group, case, "s", in_turns(peers, max(2, chosen.rounds // 8))
        yield f"first call, {group}", case, "s", cold


if __name__ == "__main__":
    versions = {name: metadata.version(name) for name in ("numpy", "numba")}
    if importlib.util.find_spec("jax") is not None:
        versions["jax"] = metadata.version("jax")
    versions["clock"], versions["not measured"] = "processor time", notes
    if chosen.threads == 1:
        _harness.run("stacks", (), chosen, versions, TARGETS, measured())
