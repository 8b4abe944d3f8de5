"""Trains a small network on rows of the data cache, data-parallel, and checks that every epoch has every row exactly once.

The initializer has started the cache before; TRAIN_JOB_NAME, which the training runtime sets, says where it is.
"""

import hashlib
import logging
import time

import torch
import torch.distributed as distributed
from torch.nn.parallel import DistributedDataParallel
from trainerd_data_cache import DataCacheDataset

EPOCHS, ROWS, WIDTH, BATCH = 3, 65536, 1024, 512
# Slow enough to look at the cache's pods, or to delete one, during the training.
PAUSE = 0.2


def main():
    # Broken streams are logged and resumed.
    logging.basicConfig(format="%(name)s: %(message)s")
    distributed.init_process_group("gloo")
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(WIDTH, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    dataset = DataCacheDataset(batch_size=BATCH, split="even", shuffle="block+rows", block=BATCH)
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        seen = torch.zeros(ROWS, dtype=torch.int64)
        right = torch.zeros(1)
        for step, batch in enumerate(dataset):
            seen += torch.bincount(batch["row"], minlength=ROWS)
            labels = batch["upper"].float().unsqueeze(1)
            optimizer.zero_grad()
            points = model(batch["features"])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(points, labels)
            loss.backward()
            optimizer.step()
            right += ((points > 0) == (labels > 0.5)).sum()
            if step % 10 == 0:
                print(f"rank={rank}/{ranks} epoch={epoch} step={step} loss={loss.item():.4f}", flush=True)
            time.sleep(PAUSE)
        distributed.all_reduce(seen)
        distributed.all_reduce(right)
        # Over all ranks: rows that were seen once, and the others.
        once = int((seen == 1).sum())
        print(f"rank={rank}/{ranks} epoch={epoch} once={once} not-once={ROWS - once}", flush=True)

    # Ranks saw different rows: equal weights on all ranks show that they trained one model.
    weights = b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())
    accuracy = right.item() / ROWS
    print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={hashlib.sha256(weights).hexdigest()[:12]}", flush=True)
    distributed.destroy_process_group()


main()
