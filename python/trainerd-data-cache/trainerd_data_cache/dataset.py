"""The dataset of a training script."""

import os

import pyarrow as pa

from .client import ChangedPlan, Client, options

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError:  # Batches of Arrow need no torch.
    torch = None
    IterableDataset = object

    def get_worker_info():
        """Without torch there is one worker."""
        return None


def _rank_and_world():
    """This process's rank and the number of ranks; 0 and 1 outside a process group."""
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class DataCacheDataset(IterableDataset):
    """Rows of the data cache, divided between ranks and the workers of their loaders.

    ``seed`` and ``batch_size`` are those of upstream's class of this name; the endpoint is the cache of the TrainJob
    (``TRAIN_JOB_NAME``) unless one is given. ``columns`` names the columns, ``split`` how rows are divided (``range``,
    ``even``, ``pad``, ``drop``; data-parallel training wants ranks to have equally many), ``shuffle`` is ``none``,
    ``block`` or ``block+rows``. ``token`` is needed where the cache asks for one. ``ca`` is the file of the authority
    of a cache with TLS, ``certificate`` and ``key`` those of this client where the cache asks for them.
    """

    def __init__(
        self,
        seed=0,
        batch_size=128,
        endpoint=None,
        columns=None,
        split="even",
        shuffle="none",
        block=None,
        token=None,
        ca=None,
        certificate=None,
        key=None,
    ):
        if batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        job = os.environ.get("TRAIN_JOB_NAME")
        if endpoint is None and not job:
            raise ValueError("no endpoint is given, and TRAIN_JOB_NAME is not set")
        scheme = "grpc+tls" if ca else "grpc"
        self.endpoint = endpoint or f"{scheme}://{job}-cache-service:50051"
        self.seed = seed
        self.batch_size = batch_size
        self.columns = columns
        self.split = split
        self.shuffle = shuffle
        self.block = block
        self.token = token
        self.tls = {"ca": ca, "certificate": certificate, "key": key}
        self._epoch = 0
        self._position = 0
        self._plan_id = None

    def set_epoch(self, epoch):
        """Chooses the order of this epoch; it begins at its first row."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._position = 0

    def state_dict(self):
        """Where this process is: give it to ``load_state_dict`` after a restart."""
        return {
            "plan_id": self._plan_id,
            "seed": self.seed,
            "epoch": self._epoch,
            "split": self.split,
            "shuffle": self.shuffle,
            "position": self._position,
        }

    def load_state_dict(self, state):
        """Goes on after the last batch that was given. Another way to divide or shuffle rows is refused."""
        for name in ("seed", "split", "shuffle"):
            if state[name] != getattr(self, name):
                raise ChangedPlan(f"the state has {name} {state[name]!r}, this dataset {getattr(self, name)!r}")
        self._plan_id = state["plan_id"]
        self._epoch = state["epoch"]
        self._position = state["position"]

    def __iter__(self):
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker is not None else (1, 0)
        rank, world = _rank_and_world()
        elements = options(columns=self.columns, split=self.split, shuffle=self.shuffle, block=self.block)
        elements += options(seed=self.seed, epoch=self._epoch)
        # A connection does not survive a fork: each iteration has its own.
        client = Client(self.endpoint, self.token, **self.tls)
        try:
            _, plan = client.info(0, 1)
            if self._plan_id is not None and plan.get("planId") != self._plan_id:
                raise ChangedPlan(f"the cache serves plan {plan.get('planId')}, not {self._plan_id}")
            self._plan_id = plan.get("planId")
            batches = client.read(rank * workers + number, world * workers, elements, self._position, self._plan_id)
            for batch in _sized(batches, self.batch_size):
                self._position += batch.num_rows
                yield self.from_arrow_rb_to_tensor(batch)
            self._position = 0
        finally:
            client.close()

    def from_arrow_rb_to_tensor(self, batch):
        """A dictionary of tensors by column; override it for another form.

        Numbers and lists of one length become tensors; a column with nulls, or one of texts, is refused by name.
        """
        if torch is None:
            return batch
        return {name: _tensor(name, column) for name, column in zip(batch.schema.names, batch.columns)}


def _sized(batches, rows):
    """Batches of just so many rows, but the last."""
    held, count = [], 0
    for batch in batches:
        while batch.num_rows:
            part = batch.slice(0, rows - count)
            held.append(part)
            count += part.num_rows
            batch = batch.slice(part.num_rows)
            if count == rows:
                yield _joined(held)
                held, count = [], 0
    if held:
        yield _joined(held)


def _joined(parts):
    if len(parts) == 1:
        return parts[0]
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]


def _tensor(name, column):
    if column.null_count:
        raise ValueError(f"column {name!r} has nulls; fill them in from_arrow_rb_to_tensor")
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return _tensor(name, column.flatten()).reshape(len(column), width)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise ValueError(f"column {name!r} is {column.type}; convert it in from_arrow_rb_to_tensor")
    return torch.from_numpy(column.to_numpy(zero_copy_only=False).copy())
