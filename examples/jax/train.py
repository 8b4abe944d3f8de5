"""Trains a small network on points of two moons, data-parallel over all processes of the TrainJob.

The trainer sets JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID.
"""

import hashlib
import os

import jax
import jax.numpy as jnp
import numpy
from jax.sharding import NamedSharding, PartitionSpec

EPOCHS, POINTS = 60, 512


def moons(rank):
    """Points of two half circles, different ones on every rank."""
    random = numpy.random.default_rng(rank)
    angle = random.random(POINTS) * numpy.pi
    upper = random.random(POINTS) < 0.5
    x = numpy.where(upper, numpy.cos(angle), 1 - numpy.cos(angle))
    y = numpy.where(upper, numpy.sin(angle), 0.5 - numpy.sin(angle))
    points = numpy.stack([x, y], axis=1) + 0.1 * random.standard_normal((POINTS, 2))
    return points.astype(numpy.float32), upper.astype(numpy.float32)


def predict(weights, points):
    hidden = jnp.tanh(points @ weights["w1"] + weights["b1"])
    return (hidden @ weights["w2"] + weights["b2"])[:, 0]


def loss_of(weights, points, labels):
    logits = predict(weights, points)
    return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))


@jax.jit
def step(weights, speed, points, labels):
    loss, gradients = jax.value_and_grad(loss_of)(weights, points, labels)
    speed = jax.tree.map(lambda before, gradient: 0.9 * before - 0.3 * gradient, speed, gradients)
    return loss, jax.tree.map(jnp.add, weights, speed), speed


def main():
    jax.distributed.initialize(
        os.environ["JAX_COORDINATOR_ADDRESS"],
        int(os.environ["JAX_NUM_PROCESSES"]),
        int(os.environ["JAX_PROCESS_ID"]),
    )
    rank, ranks = jax.process_index(), jax.process_count()
    mesh = jax.make_mesh((len(jax.devices()),), ("data",))
    local_points, local_labels = moons(rank)
    split = NamedSharding(mesh, PartitionSpec("data"))
    points = jax.make_array_from_process_local_data(split, local_points)
    labels = jax.make_array_from_process_local_data(split, local_labels)
    random = numpy.random.default_rng(0)
    weights = {
        "w1": random.standard_normal((2, 32)), "b1": numpy.zeros(32),
        "w2": random.standard_normal((32, 1)) * 0.2, "b2": numpy.zeros(1),
    }
    everywhere = NamedSharding(mesh, PartitionSpec())
    weights = {
        name: jax.make_array_from_process_local_data(everywhere, value.astype(numpy.float32))
        for name, value in weights.items()
    }
    speed = jax.tree.map(jnp.zeros_like, weights)
    for epoch in range(EPOCHS):
        loss, weights, speed = step(weights, speed, points, labels)
        if rank == 0:
            print(f"rank={rank}/{ranks} epoch={epoch} loss={float(loss):.4f}", flush=True)

    own = {name: numpy.asarray(value.addressable_data(0)) for name, value in weights.items()}
    accuracy = float(numpy.mean((numpy.asarray(predict(own, local_points)) > 0) == (local_labels > 0.5)))
    # Every rank saw different points: equal weights on all ranks show that they trained one model.
    digest = hashlib.sha256(b"".join(own[name].tobytes() for name in sorted(own))).hexdigest()[:12]
    print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={digest}", flush=True)


main()
