"""Convolution and pooling, and the network of chapter 6, beside PyTorch: `python benchmarks/bench_convolution.py --threads 1` (or more)."""

import _harness

chosen = _harness.options(__doc__)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import deepnotes as dn  # noqa: E402
from deepnotes import convolution, datasets, kernels, layers, outputs  # noqa: E402
from deepnotes.autograd import Tensor, no_grad  # noqa: E402
from deepnotes.capture import capture  # noqa: E402

torch.set_num_threads(chosen.threads)
kernels.set_num_threads(chosen.threads)
rng = np.random.default_rng(0)
SIZES, BATCHES = (8, 28), (32, 64, 128, 256)
LR, ROWS = 1e-3, 1792                                    # of the 1,797 digits, so that each batch is whole
TARGETS = {"epoch of the digits' network": {"worst": 0.6}, ("a layer, forward and backward", "torch"): {"worst": 1.0}}


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def step(layer, leaves, g):
    "One forward and one backward pass, the gradients made anew."

    def call():
        for leaf in leaves:
            leaf.grad = None
        layer(*leaves).backward(g)

    return call


def forward(layer, leaves, without_gradients):
    def call():
        with without_gradients():
            layer(*leaves)

    return call


def products(windows, inputs, features, down):
    "The matrix products of such a layer by numpy's BLAS, every window of the images a row: what is left if the rest cost nothing."
    x, w, g = normal(windows, inputs), normal(inputs, features), normal(windows, features)
    todo = [(x, w), (x.T, g), *([(g, w.T)] if down else [])]
    todo = [(left, right, np.empty((len(left), right.shape[1]), np.float32)) for left, right in todo]
    return lambda: [np.dot(*one) for one in todo]


def single_layers():
    for size in SIZES:
        for channels, features in ((1, 16), (16, 32)):
            for batch in BATCHES:
                arrays = normal(batch, channels, size, size), normal(3, 3, channels, features) / 9, normal(features)
                needed = channels > 1, True, True       # the first layer of a network needs no gradient of its images
                turned = arrays[0], np.ascontiguousarray(arrays[1].transpose(3, 2, 0, 1)), arrays[2]
                ours = [Tensor(a, requires_grad=needs) for a, needs in zip(arrays, needed, strict=True)]
                theirs = [torch.tensor(a, requires_grad=needs) for a, needs in zip(turned, needed, strict=True)]
                g, name = normal(batch, features, size, size), f"{channels} to {features}, {size} x {size}, batch {batch}"
                mine, peer = (lambda x, w, b: convolution.conv2d(x, w, b, padding=1)), (lambda x, w, b: F.conv2d(x, w, b, padding=1))
                yield "a layer, forward", name, {"deepnotes": forward(mine, ours, no_grad), "torch": forward(peer, theirs, torch.no_grad)}
                yield "a layer, forward and backward", name, {
                    "deepnotes": step(mine, ours, g), "torch": step(peer, theirs, torch.tensor(g)),
                    "products alone": products(batch * size * size, 9 * channels, features, needed[0])}


def pooling():
    pool = convolution.MaxPool2d(2)
    for size in SIZES:
        x, g = normal(256, 16, size, size), normal(256, 16, size // 2, size // 2)
        yield "largest of 2 x 2", f"16, {size} x {size}, batch 256", {
            "deepnotes": step(pool, [Tensor(x, requires_grad=True)], g),
            "torch": step(lambda x: F.max_pool2d(x, 2), [torch.tensor(x, requires_grad=True)], torch.tensor(g))}


def digits():
    data = datasets.load_digits()
    return (data.X[:ROWS] / 8 - 1).astype(np.float32).reshape(-1, 1, 8, 8), data.y[:ROWS]


def our_network():
    "Chapter 6's: ten windows of 3 x 3, the largest of each 2 x 2, ten classes; and a step of it with Adam."
    model = layers.Sequential(convolution.Conv2d(1, 10, 3, activation="relu", rng=0), layers.ReLU(), convolution.MaxPool2d(2),
                              layers.Flatten(), layers.Linear(90, 10, rng=1))
    optimizer = dn.optimizers.Adam(model.parameters(), lr=LR)

    def step(x, y):
        loss = outputs.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def their_step(model):
    "The same network from the same weights, with PyTorch's fused Adam."
    convolved, _, _, _, linear = model
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 10, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
                                  torch.nn.Linear(90, 10))
    with torch.no_grad():
        network[0].weight.copy_(torch.from_numpy(np.ascontiguousarray(convolved.weight.data.transpose(3, 2, 0, 1))))
        network[0].bias.copy_(torch.from_numpy(convolved.bias.data))
        network[4].weight.copy_(torch.from_numpy(linear.weight.data.T.copy()))
        network[4].bias.copy_(torch.from_numpy(linear.bias.data))
    optimizer = torch.optim.Adam(network.parameters(), lr=LR, fused=True)

    def step(x, y):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def epochs():
    X, y = digits()
    order = np.random.default_rng(0).permutation(ROWS)
    for batch in (32, 128):
        model, plain = our_network()
        theirs, captured = their_step(model), capture(plain)
        images, labels, places = torch.from_numpy(X), torch.from_numpy(y), torch.from_numpy(order)

        def ours(captured=captured, batch=batch):
            return captured.run((X, y), order, batch)[0]

        def torchs(theirs=theirs, images=images, labels=labels, places=places, batch=batch):
            return torch.stack([theirs(images[rows], labels[rows]) for rows in places.split(batch)]).numpy()

        apart = np.abs(ours() - torchs()).max()
        if apart > 1e-3 or not captured.captured:
            raise RuntimeError(f"batch {batch}: losses of the first epoch differ by {apart}; {captured.reason}")
        yield "epoch of the digits' network", f"batch {batch}", {"deepnotes": ours, "torch": torchs}, 15


def cases():
    for group in (epochs, single_layers, pooling):
        yield from group()


if __name__ == "__main__":
    _harness.run("convolution", cases(), chosen, {"torch": torch.__version__, "numpy": np.__version__}, TARGETS)
