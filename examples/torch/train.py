"""Trains a small network on points of two moons, data-parallel over all nodes of the TrainJob.

torchrun reads the PET_* variables that the trainer sets, and tells each process its rank.
"""

import hashlib
import os

import torch
import torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel

EPOCHS, POINTS = 60, 512


def moons(rank):
    """Points of two half circles, different ones on every rank."""
    generator = torch.Generator().manual_seed(rank)
    angle = torch.rand(POINTS, generator=generator) * torch.pi
    upper = torch.rand(POINTS, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x, y], dim=1) + 0.1 * torch.randn(POINTS, 2, generator=generator)
    return points, upper.float().unsqueeze(1)


def main():
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).to(device)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    points, labels = (tensor.to(device) for tensor in moons(rank))
    for epoch in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(points), labels)
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        if rank == 0:
            print(f"rank={rank}/{ranks} epoch={epoch} loss={mean.item() / ranks:.4f}", flush=True)

    accuracy = ((model(points) > 0) == (labels > 0.5)).float().mean().item()
    # Every rank saw different points: equal weights on all ranks show that they trained one model.
    weights = b"".join(parameter.detach().cpu().numpy().tobytes() for parameter in network.parameters())
    digest = hashlib.sha256(weights).hexdigest()[:12]
    print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={digest}", flush=True)
    distributed.destroy_process_group()


main()
