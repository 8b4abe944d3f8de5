"""Boosts trees on points of two moons, each rank with a part of them.

The trainer sets DMLC_TRACKER_URI, DMLC_TRACKER_PORT, DMLC_TASK_ID and DMLC_NUM_WORKER. The tracker, which tells the
workers of each other, runs beside the first one.
"""

import hashlib
import os

import numpy
import xgboost
from xgboost import collective
from xgboost.tracker import RabitTracker

ROUNDS, POINTS = 20, 2000


def moons(rank):
    """Points of two half circles, different ones on every rank."""
    random = numpy.random.default_rng(rank)
    angle = random.random(POINTS) * numpy.pi
    upper = random.random(POINTS) < 0.5
    x = numpy.where(upper, numpy.cos(angle), 1 - numpy.cos(angle))
    y = numpy.where(upper, numpy.sin(angle), 0.5 - numpy.sin(angle))
    return numpy.stack([x, y], axis=1) + 0.1 * random.standard_normal((POINTS, 2)), upper


def main():
    rank, ranks = int(os.environ["DMLC_TASK_ID"]), int(os.environ["DMLC_NUM_WORKER"])
    uri, port = os.environ["DMLC_TRACKER_URI"], int(os.environ["DMLC_TRACKER_PORT"])
    tracker = None
    if rank == 0:
        tracker = RabitTracker(n_workers=ranks, host_ip="0.0.0.0", port=port, sortby="task")
        tracker.start()
    settings = {
        "dmlc_communicator": "rabit",
        "dmlc_tracker_uri": uri,
        "dmlc_tracker_port": port,
        "dmlc_task_id": str(rank),
        # The first pod's name may not resolve yet.
        "dmlc_retry": 20,
    }
    with collective.CommunicatorContext(**settings):
        points, labels = moons(rank)
        data = xgboost.DMatrix(points, labels)
        history = {}
        booster = xgboost.train(
            {"objective": "binary:logistic", "max_depth": 3, "tree_method": "hist", "nthread": 1},
            data, ROUNDS, evals=[(data, "train")], evals_result=history, verbose_eval=False,
        )
        if collective.get_rank() == 0:
            for number, loss in enumerate(history["train"]["logloss"]):
                print(f"rank={rank}/{ranks} round={number} loss={loss:.4f}", flush=True)
        fresh, truth = moons(1000 + rank)
        accuracy = float(numpy.mean((booster.predict(xgboost.DMatrix(fresh)) > 0.5) == truth))
        digest = hashlib.sha256(booster.save_raw("json")).hexdigest()[:12]
        print(f"rank={rank}/{ranks} accuracy={accuracy:.3f} weights={digest}", flush=True)
    if tracker is not None:
        tracker.wait_for()


main()
