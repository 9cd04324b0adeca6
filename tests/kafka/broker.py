"""A real Kafka broker for tests: the one that KAFKA_BOOTSTRAP names, or one of our own from Maven's jars."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

VERSION = "4.1.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stepstream" / f"kafka-{VERSION}"
START_S_MAX = 60.0
STOP_S_MAX = 10.0
_PORTS = (10_000, 32_000)
_CLUSTER_ID = "c3RlcHN0cmVhbS10ZXN0cw"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>stepstream</groupId><artifactId>broker</artifactId><version>1</version><dependencies><dependency>
<groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
</dependency></dependencies></project>"""


class NoBrokerError(Exception):
    """There is no broker and none can be started."""


def jars() -> Path:
    """Return the folder of Kafka's jars; fetch them once."""
    libs = CACHE / "libs"
    if libs.is_dir():
        return libs
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise NoBrokerError(
                f"{tool} is missing: install Java 17 and Maven, or name a broker by KAFKA_BOOTSTRAP=host:port"
            )
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        (Path(work) / "pom.xml").write_text(_POM.format(version=VERSION))
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoBrokerError(f"Maven could not fetch Kafka {VERSION}: {done.stdout[-2_000:]}")
        (Path(work) / "libs").rename(libs)
    return libs


def free_port() -> int:
    """Return a port of the loopback that nobody has now, and that the system gives to nobody.

    Of its own choice, from 32768 on, it would give one to a client that asks for a broker that is away: at last the
    client connects to itself, and the broker cannot come back.
    """
    while True:
        port = random.randrange(*_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Broker:
    """A broker of our own on the loopback, in a folder of its own; it can be killed and started again.

    It is alone, or the node `number` (from 1) of `controllers`, the ports of the controllers of all.

    It listens on `port`, or a free one; `listeners` are those beside the plain one, `more` is added to its properties,
    and `users` (name to password) may come in by SCRAM-SHA-512.
    """

    def __init__(
        self,
        folder: Path,
        listeners: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        number: int = 1,
        controllers: Sequence[int] = (),
        port: int = 0,
    ) -> None:
        self._folder = folder
        self._number = number
        self._controllers = controllers or [free_port()]
        self._listeners = listeners
        self._more = more or {}
        self._port, self._controller_port = port or free_port(), self._controllers[number - 1]
        self._classpath = f"{jars()}/*"
        self._process: subprocess.Popen[bytes] | None = None
        self._write_properties()
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(self._properties)]
        for user, password in (users or {}).items():
            tool += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        subprocess.run(["java", "-cp", self._classpath, *tool], check=True, capture_output=True)

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self._port}"

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    def _write_properties(self) -> None:
        count = len(self._controllers)
        voters = [f"{number}@127.0.0.1:{port}" for number, port in enumerate(self._controllers, 1)]
        lines = {
            "process.roles": "broker,controller",
            "node.id": self._number,
            "controller.quorum.voters": ",".join(voters),
            "listeners": ",".join(
                [
                    f"PLAINTEXT://127.0.0.1:{self._port}",
                    f"CONTROLLER://127.0.0.1:{self._controller_port}",
                    *self._listeners,
                ]
            ),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self._folder / "data",
            "offsets.topic.replication.factor": count,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": count,
            "transaction.state.log.min.isr": min(count, 2),
            "transaction.state.log.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1_000,
            "auto.create.topics.enable": "false",
            # Tests make thousands of small topics.
            "log.index.size.max.bytes": 65_536,
            **self._more,
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))

    def start(self) -> None:
        """Start the broker and return when it takes connections."""
        self.launch()
        self.wait_up()

    def launch(self) -> None:
        """Start the broker's process, if there is none."""
        if self._process is not None:
            return
        command = ["java", "-Xmx512m", "-cp", self._classpath, "kafka.Kafka", str(self._properties)]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def wait_up(self) -> None:
        """Return when the broker takes connections."""
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
        raise NoBrokerError(f"the broker did not come up: {(self._folder / 'broker.log').read_text()[-2_000:]}")

    def join(self) -> None:
        """Return when the broker's process has ended."""
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """Stop the broker without its knowing; connections stay, and nothing is answered."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a stopped broker go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the broker where it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the broker as an operator does."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
                self._process = None
            except subprocess.TimeoutExpired:
                self.kill()

    def end(self) -> None:
        """Have no process any more."""
        self.kill()

    def aborted(self, topic: str) -> list[int]:
        """Return of each aborted transaction that wrote to a topic how many records it spans there."""
        return [last - first for _, first, last in self.aborted_places(topic)]

    def aborted_places(self, topic: str) -> set[tuple[str, int, int]]:
        """Return partition, first and last offset of each aborted transaction that wrote to a topic.

        The broker's own index says so: entries of 34 bytes, of which the third and the fourth number are the offsets
        of the first record and of the mark of the end.
        """
        files = (self._folder / "data").glob(f"{topic}-*/*.txnindex")
        return {
            (file.parent.name, first, last)
            for file in files
            for _, _, first, last, _ in struct.iter_unpack(">hqqqq", file.read_bytes())
        }


class Brokers:
    """Some brokers that are one cluster, each topic on all of them; to stop or kill it is to do so to one, in turn."""

    def __init__(self, folder: Path, count: int) -> None:
        controllers = [free_port() for _ in range(count)]
        for number in range(1, count + 1):
            (folder / f"node-{number}").mkdir()
        self._nodes = [
            Broker(folder / f"node-{number}", number=number, controllers=controllers) for number in range(1, count + 1)
        ]
        self._turn = 0

    @property
    def bootstrap(self) -> str:
        """The addresses for clients."""
        return ",".join(node.bootstrap for node in self._nodes)

    def _next(self) -> Broker:
        self._turn += 1
        return self._nodes[self._turn % len(self._nodes)]

    def start(self) -> None:
        """Start those that are down and return when they take connections."""
        for node in self._nodes:
            node.launch()
        for node in self._nodes:
            node.wait_up()

    def kill(self) -> None:
        """Kill one where it is."""
        self._next().kill()

    def stop(self) -> None:
        """End one as an operator does."""
        self._next().stop()

    def freeze(self) -> None:
        """Stop one without its knowing."""
        self._next().freeze()

    def thaw(self) -> None:
        """Let it go on."""
        for node in self._nodes:
            node.thaw()

    def end(self) -> None:
        """Have no process any more."""
        for node in self._nodes:
            node.end()

    def aborted(self, topic: str) -> list[int]:
        """Return of each aborted transaction that wrote to a topic how many records it spans there."""
        return [
            last - first
            for _, first, last in set[tuple[str, int, int]]().union(
                *(node.aborted_places(topic) for node in self._nodes)
            )
        ]


_Some = TypeVar("_Some", bound=Broker | Brokers)


@contextmanager
def running(brokers: _Some) -> Iterator[_Some]:
    """Start a broker or some, yield them, and end them; what they wrote stays in their folder."""
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.end()


@contextmanager
def running_broker() -> Iterator[str]:
    """Yield the address of a broker: that of KAFKA_BOOTSTRAP, or of one that lives as long as this."""
    if named := os.environ.get("KAFKA_BOOTSTRAP"):
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="stepstream-kafka-") as folder, running(Broker(Path(folder))) as broker:
        yield broker.bootstrap


def serve(port: int) -> None:
    """Run a broker on a port of the loopback until Ctrl-C, for trying things out; nothing is kept."""
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, signal.default_int_handler)
    try:
        socket.create_server(("127.0.0.1", port)).close()
        with tempfile.TemporaryDirectory(prefix="stepstream-broker-") as folder, suppress(KeyboardInterrupt):
            sys.stdout.write("a broker is fetched, if it is not here yet, and started\n")
            with running(Broker(Path(folder), port=port)) as broker:
                sys.stdout.write(
                    f"Kafka {VERSION} listens on {broker.bootstrap}; Ctrl-C ends it, and nothing is kept\n"
                )
                sys.stdout.flush()
                broker.join()
    except OSError as error:
        sys.exit(f"port {port} cannot be had ({error.strerror}): choose another by make broker PORT=9093")
    except NoBrokerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    serve(int(sys.argv[1]))
