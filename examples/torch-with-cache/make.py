"""Writes a table of two moons to the S3 server beside it, as Parquet files of several row groups, and then waits."""

import pathlib
import signal
import time

import numpy
import pyarrow
import pyarrow.fs
import pyarrow.parquet

FILES, ROWS, GROUP, WIDTH = 8, 8192, 2048, 1024


def table(number):
    """Points of two half circles in the first two of many features; the others are noise."""
    random = numpy.random.default_rng(number)
    angle = random.random(ROWS) * numpy.pi
    upper = random.random(ROWS) < 0.5
    features = random.normal(0, 0.02, (ROWS, WIDTH)).astype(numpy.float32)
    features[:, 0] += numpy.where(upper, numpy.cos(angle), 1 - numpy.cos(angle))
    features[:, 1] += numpy.where(upper, numpy.sin(angle), 0.5 - numpy.sin(angle))
    flat = pyarrow.array(features.reshape(-1))
    return pyarrow.table({
        "row": pyarrow.array(numpy.arange(number * ROWS, (number + 1) * ROWS)),
        "features": pyarrow.FixedSizeListArray.from_arrays(flat, WIDTH),
        "upper": pyarrow.array(upper),
    })


def main():
    # Must be blocked: otherwise PID 1 of a container does not receive it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    store = pyarrow.fs.S3FileSystem(
        endpoint_override="localhost:7070", scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    for _ in range(60):
        try:
            store.create_dir("example")
            break
        except OSError:
            time.sleep(0.5)
    for number in range(FILES):
        path = f"example/moons/part-{number}.parquet"
        pyarrow.parquet.write_table(table(number), path, filesystem=store, row_group_size=GROUP, compression="zstd")
    print(f"{FILES * ROWS} rows in {FILES} files", flush=True)
    pathlib.Path("/tmp/made").touch()
    signal.sigwait([signal.SIGTERM])


main()
