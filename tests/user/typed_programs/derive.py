"""A user's program: Tensors, operators and methods, losses, gradients, an operation and a loop of one's own."""

import numpy as np

import deepnotes as dn

x = dn.Tensor(np.linspace(-1, 1, 12).reshape(4, 3), requires_grad=True)
w = dn.autograd.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
z = (x @ w + 1.0) * 2.0 - x[:, :1] / 4.0
loss = dn.outputs.mse_loss(z, np.zeros((4, 1))) + 0.1 * (w**2).sum()
loss.backward()
assert w.grad is not None and w.grad.shape == (3, 1)
print(loss.item(), z.mean(axis=0).numpy(), dn.activations.relu(-z).sum().item())

cube = dn.autograd.elementwise_op(lambda u: u * u * u, lambda u: 3 * u * u, name="cube")
slope = dn.grad(lambda u: cube(u).sum())
assert np.allclose(slope(dn.Tensor(2.0)).numpy(), 12.0)
assert dn.grad_check(lambda u: dn.autograd.tanh(u).sum(), np.array([0.3, -0.7]))
with dn.no_grad():
    y = dn.activations.gelu(x).reshape(12).max()
layer = dn.Linear(3, 2, weight_init=dn.initialization.he_normal, rng=0)
optimizer = dn.optimizers.SGD(layer.parameters(), lr=0.1, momentum=0.9)
labels = np.array([0, 1, 0, 1])
errors: list[float] = []
for _ in range(3):
    optimizer.zero_grad()
    error = dn.outputs.cross_entropy(layer(x), labels, label_smoothing=0.1)
    error.backward()
    optimizer.step()
    errors.append(error.item())
print(y.item(), errors)
