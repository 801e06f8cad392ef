"""The same network, trained by each peer: what `bench_training` and `bench_capture` compare.

Every peer starts from the same float32 weights, sees the same rows in the same order, and takes Adam's steps with
PyTorch's defaults. `sizes` are the widths from input to output; ReLU and cross-entropy for a classifier, tanh and mean
squared error where the last width is 1.
"""
import math

import numpy as np

CLASSIFIER = (784, 256, 128, 10)
NARROW = (32, 64, 64, 64, 64, 1)
NAMES = {CLASSIFIER: "784-256-128-10", NARROW: "32-64-64-64-64-1"}
LR, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8


def classifies(sizes):
    return sizes[-1] > 1


def data(sizes, rows, seed=0):
    "Inputs and what to predict: classes or one number per row"
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, sizes[0]), dtype=np.float32)
    if classifies(sizes):
        return X, rng.integers(0, sizes[-1], rows)
    return X, np.tanh(X[:, :1] + X[:, 1:2]).astype(np.float32)


def weights(sizes, seed=1):
    rng = np.random.default_rng(seed)
    scale = 2 if classifies(sizes) else 1
    return [((rng.standard_normal((n, m)) * (scale / n) ** 0.5).astype(np.float32), np.zeros(m, np.float32))
            for n, m in zip(sizes, sizes[1:], strict=False)]


def deepnotes_step(sizes):
    "A training step on Tensors: forward, loss, backward, update. Returns the loss."
    import deepnotes as dn
    activation = "relu" if classifies(sizes) else "tanh"
    model = dn.MLP(sizes[0], list(sizes[1:-1]), sizes[-1], activation=activation, rng=0)
    linear = [module for module in model.children() if hasattr(module, "weight")]
    for layer, (w, b) in zip(linear, weights(sizes), strict=True):
        layer.weight.data[...], layer.bias.data[...] = w, b
    optimizer = dn.optimizers.Adam(model.parameters(), lr=LR)
    loss_of = dn.outputs.cross_entropy if classifies(sizes) else dn.outputs.mse_loss

    def step(x, y):
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_step(sizes, compiled=False):
    "The same in PyTorch, with its fused Adam; `compiled` puts network and loss through torch.compile."
    import torch
    from torch import nn
    layers = []
    for w, b in weights(sizes):
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.copy_(torch.from_numpy(b))
        layers += [layer, nn.ReLU() if classifies(sizes) else nn.Tanh()]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    loss_of = nn.functional.cross_entropy if classifies(sizes) else nn.functional.mse_loss

    def forward(x, y):
        return loss_of(model(x), y)

    if compiled:
        forward = torch.compile(forward, dynamic=False)

    def step(x, y):
        loss = forward(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def torch_epoch(sizes, X, y, batch, compiled=False):
    "A function that trains for one epoch in the given order and returns all losses."
    import torch
    step, X, y = torch_step(sizes, compiled), torch.from_numpy(X), torch.from_numpy(y)

    def epoch(order):
        order, losses = torch.from_numpy(order), []
        for rows in order.split(batch):
            losses.append(step(X[rows], y[rows]).detach())
        return torch.stack(losses).numpy()

    return epoch


def eager_epoch(sizes, X, y, batch):
    import deepnotes as dn
    step = deepnotes_step(sizes)

    def epoch(order):
        losses = []
        for start in range(0, len(order), batch):
            rows = order[start:start + batch]
            losses.append(step(dn.Tensor(X[rows]), y[rows] if classifies(sizes) else dn.Tensor(y[rows])).item())
        return np.array(losses)

    return epoch


def captured_epoch(sizes, X, y, batch):
    from deepnotes.capture import capture
    captured = capture(deepnotes_step(sizes))

    def epoch(order):
        losses = captured.run((X, y), order, batch)
        return losses[0] if isinstance(losses, tuple | list) else losses

    epoch.captured = captured
    return epoch


def jax_scan(sizes, batch):
    "A function (state, X, y, order) that is a whole epoch: a scan over mini-batches, and a step of the rows that are left."
    import jax
    import jax.numpy as jnp

    def forward(params, x):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b) if classifies(sizes) else jnp.tanh(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    def loss_of(params, x, y):
        z = forward(params, x)
        if classifies(sizes):
            return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1).mean()
        return jnp.mean((z - y) ** 2)

    def scanned(state, X, y, order):
        def body(state, rows):
            params, m, v, t = state
            loss, g = jax.value_and_grad(loss_of)(params, X[rows], y[rows])
            t = t + 1
            m = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, m, g)
            v = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, v, g)
            c1, c2 = (-jnp.expm1(t * math.log(beta)) for beta in BETAS)
            params = jax.tree.map(lambda p, m, v: p - LR / c1 * m / (jnp.sqrt(v / c2) + EPS), params, m, v)
            return (params, m, v, t), loss
        whole = len(order) // batch * batch
        state, losses = jax.lax.scan(body, state, order[:whole].reshape(-1, batch))
        if whole == len(order):
            return state, losses
        state, last = body(state, order[whole:])
        return state, jnp.append(losses, last)

    return scanned


def jax_epoch(sizes, X, y, batch):
    "The whole epoch as one jitted scan over mini-batches; parameters and optimizer state are donated, data stay put."
    import jax
    import jax.numpy as jnp
    run = jax.jit(jax_scan(sizes, batch), donate_argnums=0)
    params = [tuple(map(jnp.array, layer)) for layer in weights(sizes)]
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)  # noqa: E731
    state = [(params, zeros(), zeros(), jnp.zeros((), jnp.float32))]
    X, y = jnp.array(X), jnp.array(y)

    def epoch(order):
        state[0], losses = run(state[0], X, y, order.astype(np.int32))
        return np.asarray(losses)

    return epoch


def sklearn_epoch(sizes, X, y, batch):
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    kind = MLPClassifier if classifies(sizes) else MLPRegressor
    model = kind(hidden_layer_sizes=sizes[1:-1], activation="relu" if classifies(sizes) else "tanh", solver="adam",
                 alpha=0.0, batch_size=batch, learning_rate_init=LR, random_state=0)
    y = y if classifies(sizes) else y[:, 0]
    classes = {"classes": np.arange(sizes[-1])} if classifies(sizes) else {}

    def epoch(order):
        model.partial_fit(X, y, **(classes if not hasattr(model, "coefs_") else {}))
        return np.array([model.loss_])

    return epoch
