"""The dataset against the cache itself, on loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import pyarrow as pa
import pyarrow.parquet as parquet

from trainerd_data_cache import CacheError, ChangedPlan, DataCacheDataset

BINARY = os.environ.get("TRAINERD_CACHE_BIN") or shutil.which("trainerd-cache")
HEAD = ("127.0.0.1", 50051, 8080)
WORKERS = (("127.0.0.1", 50052, 8081), ("127.0.0.1", 50053, 8082))


def ready(port):
    """Whether the probe at this port is answered well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for_free(port, seconds=60):
    """Waits until nobody has this port: workers on one machine have fixed ones, which any connection may be given."""
    end = time.monotonic() + seconds
    while True:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return listener.bind(("127.0.0.1", port))
            except OSError:
                if time.monotonic() > end:
                    raise
        time.sleep(0.1)


@unittest.skipUnless(BINARY, "TRAINERD_CACHE_BIN names no program")
class Serving(unittest.TestCase):
    def more(self, folder):
        """Variables of head and workers beside those of the source."""
        return {}

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for number in range(4):
            rows = range(number * 250, number * 250 + 250)
            tokens = pa.FixedSizeListArray.from_arrays(pa.array([row * 2 + part for row in rows for part in (0, 1)]), 2)
            table = pa.table({"id": pa.array(rows), "tokens": tokens, "text": [f"row {row}" for row in rows]})
            parquet.write_table(table, f"{folder.name}/{number}.parquet", row_group_size=50)
        self.environment = {**os.environ, "SOURCE_URI": folder.name, "RUNTIME_ENV": "local", **self.more(folder.name)}
        self.log = open(f"{folder.name}/.log", "w+")
        self.addCleanup(self.log.close)
        self.workers = [self.start("worker", *place) for place in WORKERS]
        head = self.start("head", *HEAD)
        end = time.monotonic() + 60
        while not ready(HEAD[2]):
            ended = [process.args for process in (*self.workers, head) if process.poll() is not None]
            if ended or time.monotonic() > end:
                self.log.seek(0)
                self.fail(f"the head does not become ready; ended: {ended}\n{self.log.read()}")
            time.sleep(0.05)

    def start(self, role, host, port, health):
        for number in (port, health):
            wait_for_free(port=number)
        environment = {**self.environment, "HEALTH_PORT": str(health)}
        process = subprocess.Popen([BINARY, role, host, str(port)], env=environment, stderr=self.log)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def dataset(self, **given):
        dataset = DataCacheDataset(endpoint="grpc://127.0.0.1:50051", columns=["id"], **given)
        # Arrow batches, whether torch is installed or not.
        dataset.from_arrow_rb_to_tensor = lambda batch: batch.column("id").to_pylist()
        return dataset

    def test_every_row_comes_once_in_each_epoch_and_each_has_an_order_of_its_own(self):
        dataset = self.dataset(batch_size=64, shuffle="block+rows", block=100, seed=1)
        orders = []
        for epoch in range(2):
            dataset.set_epoch(epoch)
            batches = list(dataset)
            self.assertEqual([len(batch) for batch in batches], [64] * 15 + [40])
            orders.append(sum(batches, []))
            self.assertEqual(sorted(orders[-1]), list(range(1000)))
        self.assertNotEqual(*orders)

    def test_a_saved_state_goes_on_where_it_was(self):
        given = {"batch_size": 30, "shuffle": "block", "block": 70, "seed": 5}
        whole = sum(self.dataset(**given), [])
        first = self.dataset(**given)
        batches = iter(first)
        begun = sum((next(batches) for _ in range(7)), [])
        state = first.state_dict()
        second = self.dataset(**given)
        second.load_state_dict(state)
        self.assertEqual(begun + sum(second, []), whole)
        third = self.dataset(**given)
        with self.assertRaises(ChangedPlan):
            third.load_state_dict({**state, "plan_id": "00" * 16})
            next(iter(third))

    def test_a_worker_that_is_killed_loses_no_row_and_doubles_none(self):
        rows = []
        for number, batch in enumerate(self.dataset(batch_size=10)):
            rows += batch
            if number == 3:
                self.workers[1].kill()
        self.assertEqual(rows, list(range(1000)))

    def test_what_is_asked_wrongly_is_refused_by_name(self):
        dataset = DataCacheDataset(endpoint="grpc://127.0.0.1:50051", columns=["idd"])
        with self.assertRaisesRegex(CacheError, 'no column "idd"; did you mean "id"'):
            next(iter(dataset))


@unittest.skipUnless(shutil.which("openssl"), "certificates are made with openssl")
class Secured(Serving):
    """The same over TLS, with a certificate of the client's own and a token."""

    def more(self, folder):
        # Hidden files are no part of the source.
        os.mkdir(f"{folder}/.tls")
        self.certificate, self.key = f"{folder}/.tls/tls.crt", f"{folder}/.tls/tls.key"
        with open(f"{folder}/.tls/token", "w") as file:
            file.write("sesame")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=cache".split()
        for extension in ("basicConstraints=critical,CA:FALSE", "subjectAltName=DNS:localhost,IP:127.0.0.1"):
            command += ["-addext", extension]
        command += ["-keyout", self.key, "-out", self.certificate]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return {
            "TLS_CERT_FILE": self.certificate,
            "TLS_KEY_FILE": self.key,
            "TLS_CLIENT_CA_FILE": self.certificate,
            "AUTH_TOKEN_FILE": f"{folder}/.tls/token",
        }

    def dataset(self, **given):
        whole = {"ca": self.certificate, "certificate": self.certificate, "key": self.key, "token": "sesame"}
        dataset = super().dataset(**{**whole, **given})
        dataset.endpoint = "grpc+tls://127.0.0.1:50051"
        return dataset

    def test_what_is_asked_wrongly_is_refused_by_name(self):
        with self.assertRaisesRegex(CacheError, "missing or invalid token"):
            next(iter(self.dataset(token="guess")))
        with self.assertRaises(CacheError):
            next(iter(self.dataset(certificate=None, key=None)))


if __name__ == "__main__":
    unittest.main()
