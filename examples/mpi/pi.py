"""Computes π: every process throws darts at a square and counts those in the circle; the first adds up."""

import numpy
from mpi4py import MPI

DARTS = 2_000_000

world = MPI.COMM_WORLD
rank, ranks = world.Get_rank(), world.Get_size()
print(f"rank={rank}/{ranks} host={MPI.Get_processor_name()}", flush=True)

# Each process has its own seed, the same one in every run.
darts = numpy.random.default_rng(rank).random((DARTS, 2))
inside = int((numpy.square(darts).sum(axis=1) <= 1).sum())
total = world.reduce(inside, op=MPI.SUM, root=0)
if rank == 0:
    print(f"rank={rank}/{ranks} pi={4 * total / (DARTS * ranks):.6f}", flush=True)
