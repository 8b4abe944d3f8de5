"""Submits a function as a TrainJob with Kubeflow's SDK, follows its logs and reads its result from them.

    python3 -m venv .venv && .venv/bin/pip install -r examples/sdk/requirements.txt
    KUBECONFIG=… .venv/bin/python examples/sdk/submit.py
"""

import json
import sys

from kubeflow.trainer import CustomTrainer, TrainerClient


def fit(slope: float, epochs: int):
    """Runs on every node. The SDK sends its source, so it must import what it needs."""
    import json

    import torch
    import torch.distributed as distributed

    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(rank)
    x = torch.rand(256, 1)
    y = slope * x + 1
    line = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.Adam(line.parameters(), lr=0.1)
    for epoch in range(epochs):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(line(x), y)
        loss.backward()
        optimizer.step()
        if rank == 0 and epoch % 50 == 0:
            print(f"rank={rank}/{ranks} epoch={epoch} loss={loss.item():.5f}", flush=True)
    # Equal values on all nodes show that they trained one model.
    slope = line.module.weight.item()
    print(f"rank={rank}/{ranks} slope={slope:.6f}", flush=True)
    if rank == 0:
        print("result:", json.dumps({"slope": slope, "loss": loss.item()}), flush=True)
    distributed.destroy_process_group()


def main():
    slope, nodes = 3.0, 2
    client = TrainerClient()
    name = client.train(
        runtime=client.get_runtime("torch-distributed"),
        trainer=CustomTrainer(func=fit, func_args={"slope": slope, "epochs": 300}, num_nodes=nodes),
    )
    print(f"TrainJob {name} is submitted")
    client.wait_for_job_status(name, status={"Running", "Complete"})
    result = None
    for node in range(nodes):
        for line in client.get_job_logs(name, step=f"node-{node}", follow=True):
            print(f"  {line}", flush=True)
            if line.startswith("result: "):
                result = json.loads(line.removeprefix("result: "))
    job = client.wait_for_job_status(name)
    print(f"TrainJob {name} is {job.status} on {job.num_nodes} nodes: {result}")
    client.delete_job(name)
    return 0 if result and abs(result["slope"] - slope) < 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
