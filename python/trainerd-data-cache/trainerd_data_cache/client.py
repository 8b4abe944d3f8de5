"""One partition of a dataset, as a stream of record batches in the order of their positions."""

import heapq
import json
import logging
import time
from urllib.parse import quote

import pyarrow as pa
import pyarrow.flight as flight

_log = logging.getLogger("trainerd_data_cache")

# A server that is gone without a word is found out within ten seconds: a ping after five, five for its answer.
_ALIVE = [
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.max_pings_without_data", 0),
]

# Pauses between tries, in seconds.
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)


class CacheError(Exception):
    """The cache cannot be read; the text says why."""


class ChangedPlan(CacheError):
    """The cache serves other data than a saved position is of."""


def options(**given):
    """The descriptor's elements for these options; those that are None are left out."""
    elements = []
    for key, value in given.items():
        if value is None:
            continue
        parts = value if key == "columns" else [str(value)]
        elements.append(f"{key}={','.join(quote(part, safe='+') for part in parts)}")
    return elements


def _integers(data):
    """The two integers that begin a ticket or a message's metadata."""
    numbers = []
    while len(numbers) < 2:
        width = {0xFB: 2, 0xFC: 4, 0xFD: 8}.get(data[0], 0)
        numbers.append(int.from_bytes(data[1 : 1 + width], "little") if width else data[0])
        data = data[1 + width :]
    return numbers


def _read(path):
    with open(path, "rb") as file:
        return file.read()


class _Stream:
    """An endpoint's batches with the positions of their first rows."""

    def __init__(self, reader):
        self._reader = reader

    def next(self):
        """The next batch with its position (None where the server names none), or None at the end."""
        while True:
            try:
                chunk = self._reader.read_chunk()
            except StopIteration:
                return None
            if chunk.data is None or chunk.data.num_rows == 0:
                continue
            metadata = chunk.app_metadata
            position = _integers(metadata.to_pybytes())[0] if metadata is not None and len(metadata) else None
            return position, chunk.data


class Client:
    """Reads partitions from the head at ``endpoint`` and from the workers that it names.

    Connections are kept, one for each server, until ``close``. ``token`` is that of the cache's ``AUTH_TOKEN_FILE``.
    With TLS (``grpc+tls://``), ``ca`` is the file of the authority that signed the servers' certificates (the machine's
    own authorities otherwise), and ``certificate`` and ``key`` the files of this client's own, where the cache asks for
    one. The files are read when a connection is opened.
    """

    def __init__(self, endpoint, token=None, ca=None, certificate=None, key=None):
        if (certificate is None) != (key is None):
            raise ValueError("certificate and key are given together")
        self._endpoint = endpoint
        self._tls = {"tls_root_certs": ca, "cert_chain": certificate, "private_key": key}
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        self._call = flight.FlightCallOptions(headers=headers)
        self._open = {}

    def close(self):
        """Closes all connections."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _connection(self, location):
        if location not in self._open:
            tls = {name: _read(path) for name, path in self._tls.items() if path is not None}
            self._open[location] = flight.FlightClient(location, generic_options=_ALIVE, **tls)
        return self._open[location]

    def info(self, partition, partitions, elements=()):
        """The FlightInfo of a partition, and what the cache says of its plan (empty for upstream's cache).

        Asks again, for about nine seconds, while the cache is not ready or does not answer.
        """
        path = [str(partition).encode(), str(partitions).encode(), *(element.encode() for element in elements)]
        descriptor = flight.FlightDescriptor.for_path(*path)
        for pause in (*_PAUSES, None):
            try:
                info = self._connection(self._endpoint).get_flight_info(descriptor, self._call)
                return info, json.loads(info.app_metadata) if info.app_metadata else {}
            except flight.FlightUnavailableError as error:
                if pause is None:
                    raise CacheError(str(error)) from error
                self.close()
                time.sleep(pause)
            except (flight.FlightError, pa.ArrowException) as error:
                raise CacheError(str(error)) from error

    def read(self, partition, partitions, elements=(), skip=0, plan_id=None):
        """The batches of a partition from its row ``skip`` on, in the order of their positions.

        With ``plan_id``, data of another plan is refused. A stream that breaks is asked for again from the row after
        the last that was given, five times in a row at most. Rows of upstream's cache, which names no positions, come
        one endpoint after the other and are not asked for again.
        """
        tries = 0
        while True:
            more = [*elements, f"skip={skip}"] if skip else list(elements)
            info, plan = self.info(partition, partitions, more)
            if plan_id is not None and plan.get("planId") != plan_id:
                raise ChangedPlan(f"the cache serves plan {plan.get('planId')}, not {plan_id}")
            plan_id = plan.get("planId", plan_id)
            try:
                for batch in self._merged(info):
                    tries = 0
                    skip += batch.num_rows
                    yield batch
                return
            except (flight.FlightError, pa.ArrowException) as error:
                refused = (flight.FlightUnauthenticatedError, flight.FlightUnauthorizedError, pa.ArrowInvalid)
                if plan_id is None or isinstance(error, refused) or tries == len(_PAUSES):
                    raise CacheError(str(error)) from error
                why = str(error).splitlines()[0] if str(error) else type(error).__name__
                _log.warning("stream of partition %d broke at its row %d, asking again: %s", partition, skip, why)
            time.sleep(_PAUSES[tries])
            tries += 1
            self.close()

    def _merged(self, info):
        """The batches of all endpoints, the lowest position first."""
        streams = []
        for endpoint in info.endpoints:
            connection = self._connection(endpoint.locations[0].uri.decode())
            streams.append(_Stream(connection.do_get(endpoint.ticket, self._call)))
        heads = []
        for place, stream in enumerate(streams):
            head = stream.next()
            # Without positions: one endpoint after the other.
            while head is not None and head[0] is None:
                yield head[1]
                head = stream.next()
            if head is not None:
                heads.append((head[0], place, head[1]))
        heapq.heapify(heads)
        while heads:
            _, place, batch = heapq.heappop(heads)
            yield batch
            head = streams[place].next()
            if head is not None:
                heapq.heappush(heads, (head[0], place, head[1]))
