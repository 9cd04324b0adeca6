"""Run a broker for trying things out, until Ctrl-C: python -m tests.kafka.cluster.serve PORT (`make broker`)."""

import errno
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tests.kafka.cluster.broker import Broker, BrokerOptions, running
from tests.kafka.cluster.distribution import VERSION, download, write_tools
from tests.kafka.cluster.java import NoBrokerError, find_java

READY = """\
Kafka {version} listens on {bootstrap}; Ctrl-C stops it and deletes its data.
Its command-line tools are in {tools}, for example:
  {tools}/kafka-topics.sh --bootstrap-server {bootstrap} --list
  {tools}/kafka-consumer-groups.sh --bootstrap-server {bootstrap} --list
"""


def report(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check_port(port: int) -> None:
    """Exit with a remedy when the port of the loopback cannot be bound."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {os.strerror(error.errno or 0)}"
        sys.exit(f"port {port} {reason}; choose another one: make broker PORT=9093")


def serve(port: int) -> None:
    """Run a broker on a port of the loopback until SIGINT or SIGTERM. Raises NoBrokerError."""
    with tempfile.TemporaryDirectory(prefix="stepstream-broker-") as folder:
        report(f"Java: {find_java()}")
        download(report)
        tools = write_tools()
        report(f"starting Kafka {VERSION} on port {port}")
        with running(Broker(Path(folder), BrokerOptions(port=port))) as broker:
            report(READY.format(version=VERSION, bootstrap=broker.bootstrap, tools=tools).rstrip())
            code = broker.wait_until_ended()
            raise NoBrokerError(f"the broker ended with exit code {code}, and its log ends with:\n{broker.log()}")


def main() -> None:
    """Run the broker on the port that the command line names."""
    for ends in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ends, signal.default_int_handler)
    port = int(sys.argv[1])
    check_port(port)
    try:
        with suppress(KeyboardInterrupt):
            serve(port)
    except NoBrokerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
