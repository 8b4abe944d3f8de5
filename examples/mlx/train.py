"""Trains a small network on points of two moons, data-parallel over all processes that mpirun starts."""

import hashlib

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optimizers
import numpy
from mlx.utils import tree_flatten

EPOCHS, POINTS = 60, 512


def moons(rank):
    """Points of two half circles, different ones on every rank."""
    random = numpy.random.default_rng(rank)
    angle = random.random(POINTS) * numpy.pi
    upper = random.random(POINTS) < 0.5
    x = numpy.where(upper, numpy.cos(angle), 1 - numpy.cos(angle))
    y = numpy.where(upper, numpy.sin(angle), 0.5 - numpy.sin(angle))
    points = numpy.stack([x, y], axis=1) + 0.1 * random.standard_normal((POINTS, 2))
    return mx.array(points.astype(numpy.float32)), mx.array(upper.astype(numpy.float32))


def loss_of(model, points, labels):
    return nn.losses.binary_cross_entropy(model(points)[:, 0], labels)


def main():
    # Without MPI, each node would train on its own.
    group = mx.distributed.init(strict=True, backend="mpi")
    rank, ranks = group.rank(), group.size()
    mx.random.seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = optimizers.Adam(learning_rate=0.05)
    step = nn.value_and_grad(model, loss_of)
    points, labels = moons(rank)
    for epoch in range(EPOCHS):
        loss, gradients = step(model, points, labels)
        optimizer.update(model, nn.average_gradients(gradients))
        mx.eval(model.parameters(), optimizer.state)
        mean = mx.distributed.all_sum(loss).item() / ranks
        if rank == 0:
            print(f"rank={rank}/{ranks} epoch={epoch} loss={mean:.4f}", flush=True)

    accuracy = mx.mean((model(points)[:, 0] > 0) == (labels > 0.5)).item()
    # Every rank saw different points: equal weights on all ranks show that they trained one model.
    weights = b"".join(numpy.array(weight).tobytes() for _, weight in tree_flatten(model.parameters()))
    digest = hashlib.sha256(weights).hexdigest()[:12]
    print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={digest}", flush=True)


main()
