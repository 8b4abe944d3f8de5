"""Trains a small network on points of two moons with DeepSpeed's ZeRO: each rank has a part of the optimizer state.

mpirun starts the processes; DeepSpeed learns from MPI who they are.
"""

import hashlib
import shutil

import deepspeed
import torch
import torch.distributed as distributed

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
    if shutil.which("c++") is None:
        # On CPUs, DeepSpeed would compile an operator for ranks on one node; without it, they use gloo.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    engine, *_ = deepspeed.initialize(
        model=network,
        model_parameters=network.parameters(),
        config={
            "train_micro_batch_size_per_gpu": POINTS,
            # PyTorch's optimizer: DeepSpeed would compile its own.
            "optimizer": {"type": "Adam", "params": {"lr": 0.05, "torch_adam": True}},
            "zero_optimization": {"stage": 1},
        },
    )
    points, labels = (tensor.to(engine.device) for tensor in moons(rank))
    for epoch in range(EPOCHS):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(engine(points), labels)
        engine.backward(loss)
        engine.step()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        if rank == 0:
            print(f"rank={rank}/{ranks} epoch={epoch} loss={mean.item() / ranks:.4f}", flush=True)

    accuracy = ((engine(points) > 0) == (labels > 0.5)).float().mean().item()
    # Every rank saw different points: equal weights on all ranks show that they trained one model.
    weights = b"".join(parameter.detach().cpu().numpy().tobytes() for parameter in network.parameters())
    digest = hashlib.sha256(weights).hexdigest()[:12]
    print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={digest}", flush=True)
    distributed.destroy_process_group()


main()
