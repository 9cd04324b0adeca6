"""A real Kafka broker for tests: the one that KAFKA_BOOTSTRAP names, or a process of the test run."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tests.kafka.cluster.distribution import FAST_START, java_command
from tests.kafka.cluster.java import NoBrokerError

# A start takes seconds, and a minute on a machine that other programs load; a process that ends is noticed at once.
START_S_MAX = 180.0
STOP_S_MAX = 10.0
CONNECT_S_MAX = 5.0
_LOOK_S = 0.05
_FAST_BYTES_MIN = 6 << 30
_PORTS = (10_000, 32_000)
# The processes of one test run, at most: pytest-xdist numbers them from gw0.
_PROCESSES = 8
_taken = set[int]()
_CLUSTER_ID = "c3RlcHN0cmVhbS10ZXN0cw"


def free_port() -> int:
    """Return a port of the loopback that is free now and outside the ephemeral range of the system.

    From the ephemeral range, the system could assign the port of a stopped broker to a client that tries to connect to
    it: the client would connect to itself, and the broker could not bind its port again. A port is returned once, and
    by one process of a test run only: until a broker that starts has bound its port, others would find it free.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    while True:
        port = random.randrange(_PORTS[0] + process, _PORTS[1], _PROCESSES)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _taken:
                _taken.add(port)
                return port


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How a broker differs from the default, which is a cluster of one node with a plaintext listener on a free port.

    `listeners` are added to the plaintext one, `properties` to server.properties, and `users` (name to password) can
    log in by SCRAM-SHA-512. `node` counts from 1, and `controllers` has the controller port of each node. `java` are
    options of the Java runtime.
    """

    port: int = 0
    listeners: Sequence[str] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    node: int = 1
    controllers: Sequence[int] = ()
    java: Sequence[str] = FAST_START


class Broker:
    """A broker process on the loopback with its data in a folder; it can be killed, frozen and restarted."""

    def __init__(self, folder: Path, options: BrokerOptions | None = None) -> None:
        given = options or BrokerOptions()
        self._folder = folder
        self._options = replace(given, port=given.port or free_port(), controllers=given.controllers or [free_port()])
        self._process: subprocess.Popen[bytes] | None = None
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
        self._format()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port of the plaintext listener."""
        return self._options.port

    @property
    def controller_port(self) -> int:
        """The port of the controller of this node."""
        return self._options.controllers[self._options.node - 1]

    @property
    def data(self) -> Path:
        """The folder of the broker's log segments."""
        return self._folder / "data"

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def properties(self) -> Mapping[str, object]:
        """Return the lines of server.properties."""
        options = self._options
        count = len(options.controllers)
        voters = [f"{number}@127.0.0.1:{port}" for number, port in enumerate(options.controllers, 1)]
        own = [f"PLAINTEXT://127.0.0.1:{self.port}", f"CONTROLLER://127.0.0.1:{self.controller_port}"]
        return {
            "process.roles": "broker,controller",
            "node.id": options.node,
            "controller.quorum.voters": ",".join(voters),
            "listeners": ",".join([*own, *options.listeners]),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": count,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": count,
            "transaction.state.log.min.isr": min(count, 2),
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1_000,
            "auto.create.topics.enable": "false",
            # A test run creates thousands of small topics, and each partition preallocates its index files.
            "log.index.size.max.bytes": 65_536,
            **options.properties,
        }

    def _format(self) -> None:
        command = java_command("kafka.tools.StorageTool", *FAST_START)
        command += ["format", "--cluster-id", _CLUSTER_ID, "--config", str(self._properties)]
        for user, password in self._options.users.items():
            command += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise NoBrokerError(f"the broker's folder {self._folder} could not be formatted: {done.stderr[-2_000:]}")

    def start(self) -> None:
        """Start the broker and return when it accepts connections. Raises NoBrokerError."""
        self.launch()
        self.wait_until_up()

    def launch(self) -> None:
        """Start the broker's process unless it runs already."""
        if self._process is not None:
            return
        command = [*java_command("kafka.Kafka", "-Xmx512m", *self._options.java), str(self._properties)]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def wait_until_up(self) -> None:
        """Return when the broker accepts connections. Raises NoBrokerError."""
        deadline = time.monotonic() + START_S_MAX
        while self._process is not None and time.monotonic() < deadline:
            if accepts_connections("127.0.0.1", self.port):
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_S)
                break
        raise NoBrokerError(f"the broker did not start, and its log ends with:\n{self.log()}")

    def log(self) -> str:
        """Return the end of what the broker logged."""
        return (self._folder / "broker.log").read_text()[-2_000:]

    def wait_until_ended(self) -> int:
        """Return the exit code of the broker's process when it has ended."""
        return 0 if self._process is None else self._process.wait()

    def freeze(self) -> None:
        """Suspend the broker's process: connections stay open, and no request is answered."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the broker's process."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the broker with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop the broker with SIGTERM, as an operator does."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
                self._process = None
            except subprocess.TimeoutExpired:
                self.kill()

    def end(self) -> None:
        """End the broker for good; its data may be in any state."""
        self.kill()

    def aborted(self, topic: str) -> list[int]:
        """Return, for each aborted transaction that wrote to a topic, the number of offsets that it spans there."""
        return [last - first for _, first, last in self.aborted_ranges(topic)]

    def aborted_ranges(self, topic: str) -> set[tuple[str, int, int]]:
        """Return partition, first and last offset of each aborted transaction that wrote to a topic.

        They come from the broker's transaction index, whose entries have 34 bytes: version, producer id, offset of the
        first record, offset of the abort marker, last stable offset.
        """
        return {
            (file.parent.name, first, last)
            for file in self.data.glob(f"{topic}-*/*.txnindex")
            for _, _, first, last, _ in struct.iter_unpack(">hqqqq", file.read_bytes())
        }


class Brokers:
    """A cluster of several brokers that replicates each topic to all; a fault hits one broker, alternating."""

    def __init__(self, folder: Path, count: int) -> None:
        controllers = [free_port() for _ in range(count)]
        self._nodes: list[Broker] = []
        for node in range(1, count + 1):
            (folder / f"node-{node}").mkdir()
            self._nodes.append(Broker(folder / f"node-{node}", BrokerOptions(node=node, controllers=controllers)))
        self._faults = 0

    @property
    def bootstrap(self) -> str:
        """The addresses for clients."""
        return ",".join(node.bootstrap for node in self._nodes)

    def _next(self) -> Broker:
        self._faults += 1
        return self._nodes[self._faults % len(self._nodes)]

    def start(self) -> None:
        """Start the brokers that are down and return when all accept connections. Raises NoBrokerError."""
        for node in self._nodes:
            node.launch()
        for node in self._nodes:
            node.wait_until_up()

    def kill(self) -> None:
        """Kill the next broker with SIGKILL."""
        self._next().kill()

    def stop(self) -> None:
        """Stop the next broker with SIGTERM."""
        self._next().stop()

    def freeze(self) -> None:
        """Suspend the process of the next broker."""
        self._next().freeze()

    def thaw(self) -> None:
        """Resume the processes of all brokers."""
        for node in self._nodes:
            node.thaw()

    def end(self) -> None:
        """End all brokers for good."""
        for node in self._nodes:
            node.end()

    def aborted(self, topic: str) -> list[int]:
        """Return, for each aborted transaction that wrote to a topic, the number of offsets that it spans there."""
        ranges = set[tuple[str, int, int]]().union(*(node.aborted_ranges(topic) for node in self._nodes))
        return [last - first for _, first, last in ranges]


_Some = TypeVar("_Some", bound=Broker | Brokers)


@contextmanager
def running(brokers: _Some) -> Iterator[_Some]:
    """Start a broker or a cluster, yield it, and end it; its folder is left as it is. Raises NoBrokerError."""
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.end()


@contextmanager
def running_broker(options: BrokerOptions | None = None, parent: Path | None = None) -> Iterator[str]:
    """Yield the address of a broker: KAFKA_BOOTSTRAP, or a broker that ends with this context. Raises NoBrokerError.

    Its data is in a temporary folder in `parent`, by default that of the system.
    """
    if named := os.environ.get("KAFKA_BOOTSTRAP"):
        check_address(named)
        yield named
        return
    with (
        tempfile.TemporaryDirectory(prefix="stepstream-kafka-", dir=parent) as folder,
        running(Broker(Path(folder), options)) as broker,
    ):
        yield broker.bootstrap


def fast_folder() -> Path | None:
    """Return a folder in memory if there is room for the data of all tests, None otherwise.

    Each partition has five files: to create and delete those of a test run took minutes on a disk.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is created with a random name and for this user only
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _FAST_BYTES_MIN else None


def check_address(bootstrap: str) -> None:
    """Raise NoBrokerError when none of the addresses HOST:PORT accepts connections."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if host and port.isdecimal() and accepts_connections(host.strip("[]"), int(port)):
            return
    raise NoBrokerError(
        f"no broker accepts connections at {bootstrap}: start it, or correct the address (HOST:PORT, several separated "
        "by commas) in KAFKA_BOOTSTRAP or --kafka; without an address a broker is started"
    )


def accepts_connections(host: str, port: int) -> bool:
    """Return whether a TCP connection can be opened."""
    try:
        with socket.create_connection((host, port), CONNECT_S_MAX):
            return True
    except OSError:
        return False
