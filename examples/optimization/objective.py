"""Fits a line by gradient descent and reports the loss to the Trainer's status server."""

import argparse
import json
import math
import os
import pathlib
import random
import ssl
import urllib.request
from datetime import datetime, timezone


def fit(learning_rate, steps, momentum):
    """Mean squared error of y = 3x + 1 with noise, after so many steps."""
    noise = random.Random(0)
    points = [(x / 50, 3 * x / 50 + 1 + noise.gauss(0, 0.1)) for x in range(100)]
    slope = bias = slope_velocity = bias_velocity = 0.0
    for _ in range(steps):
        errors = [(slope * x + bias - y, x) for x, y in points]
        slope_velocity = momentum * slope_velocity - learning_rate * 2 * sum(e * x for e, x in errors) / len(points)
        bias_velocity = momentum * bias_velocity - learning_rate * 2 * sum(e for e, _ in errors) / len(points)
        slope, bias = slope + slope_velocity, bias + bias_velocity
        if not math.isfinite(slope * slope + bias * bias):
            break
    loss = sum((slope * x + bias - y) ** 2 for x, y in points) / len(points)
    # A diverged result is bad but must still be a number.
    return min(loss, 1e9) if math.isfinite(loss) else 1e9


def report(metrics):
    """Reports to the status server. The pod has its address, and a token that is valid for this TrainJob only."""
    url = os.environ["KUBEFLOW_TRAINER_SERVER_URL"]
    token = pathlib.Path(os.environ["KUBEFLOW_TRAINER_SERVER_TOKEN"]).read_text().strip()
    trust = ssl.create_default_context(cafile=os.environ["KUBEFLOW_TRAINER_SERVER_CA_CERT"])
    # The controller's CA certificate lacks extensions that Python's strict mode requires.
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    body = {
        "trainerStatus": {
            "progressPercentage": 100,
            "lastUpdatedTime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "metrics": [{"name": name, "value": f"{value:.6g}"} for name, value in metrics.items()],
        }
    }
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        answer.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--momentum", type=float, required=True)
    arguments = parser.parse_args()
    loss = fit(arguments.learning_rate, arguments.steps, arguments.momentum)
    print(f"loss={loss:.6g}", flush=True)
    report({"loss": loss})


if __name__ == "__main__":
    main()
