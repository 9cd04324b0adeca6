"""The broker that `make broker` runs for people."""

import signal
import socket
import subprocess
import sys

import pytest

from tests.kafka.broker import free_port
from tests.kafka.fleet import ROOT

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def command(port: int) -> list[str]:
    """Return what `make broker` runs."""
    return [sys.executable, "-m", "tests.kafka.broker", str(port)]


def test_a_broker_for_people_ends_when_told() -> None:
    """It listens where it says, one port has one broker, and it ends without a traceback and leaves nobody there."""
    port = free_port()
    process = subprocess.Popen(command(port), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert any(f"listens on 127.0.0.1:{port};" in line for line in process.stdout)
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        second = subprocess.run(command(port), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert second.returncode == 1
        assert f"port {port} cannot be had" in second.stderr
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        with socket.create_server(("127.0.0.1", port)):
            pass
    finally:
        process.kill()
