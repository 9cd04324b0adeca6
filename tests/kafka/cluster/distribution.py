"""Download Apache Kafka once, from Maven Central without Maven, and write scripts that run its command-line tools."""

import fcntl
import importlib
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kafka.cluster.java import REMEDY, NoBrokerError, find_java

VERSION = "4.1.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "stepstream" / f"kafka-{VERSION}"
# Short runs dominate: a cheaper compiler and collector halve the CPU time of a start.
FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
TOOLS = {
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka-delete-records.sh": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka-get-offsets.sh": "org.apache.kafka.tools.GetOffsetShell",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-transactions.sh": "org.apache.kafka.tools.TransactionsCommand",
}
_BROKER = ("org.apache.kafka:kafka_2.13:" + VERSION, "org.slf4j:slf4j-simple:1.7.36")
# Its own dependencies are Kafka Connect, 45 jars that none of the tools above loads.
_TOOLS = "org.apache.kafka:kafka-tools:" + VERSION
_REPORT_EVERY = 10
_LOG_ERRORS = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"

Report = Callable[[str], None]


def no_report(line: str) -> None:
    """Report nothing."""


def java_command(main: str, *options: str, report: Report = no_report) -> list[str]:
    """Return the command that runs a class of Kafka, without the arguments of the class. Raises NoBrokerError."""
    return [find_java(), *options, _LOG_ERRORS, "-cp", f"{download(report)}/*", main]


def download(report: Report = no_report) -> Path:
    """Return the folder of Kafka's jars, and download them if they are missing. Raises NoBrokerError."""
    jars = CACHE / "jars"
    if jars.is_dir():
        return jars
    if importlib.util.find_spec("jgo") is None:
        raise NoBrokerError(f"Kafka {VERSION} must be downloaded first, and jgo is not installed: {REMEDY}")
    CACHE.mkdir(parents=True, exist_ok=True)
    with _only_one(CACHE / "lock"), tempfile.TemporaryDirectory(dir=CACHE) as work:
        if not jars.is_dir():
            # Imported when needed, because a broker whose jars were downloaded before runs without it.
            _download(importlib.import_module("jgo.maven"), Path(work), report)
            (Path(work) / "jars").rename(jars)
    return jars


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold a lock between processes, so that the workers of one test run download once."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(maven: Any, work: Path, report: Report) -> None:
    (work / "jars").mkdir()
    report(f"downloading Apache Kafka {VERSION} from Maven Central, 43 MB, to {CACHE}")
    try:
        context = maven.MavenContext(repo_cache=work / "repository")
        roots, others = context.resolver.resolve([context.create_dependency(name) for name in _BROKER])
        needed = [*roots, *(each for each in others if each.scope in ("compile", "runtime"))]
        artifacts = [each.artifact for each in (*needed, context.create_dependency(_TOOLS))]
        for number, artifact in enumerate(artifacts, 1):
            shutil.copy(artifact.resolve(), work / "jars")
            if number % _REPORT_EVERY == 0 or number == len(artifacts):
                report(f"downloaded {number} of {len(artifacts)} jars")
    # What requests and jgo raise when a server cannot be reached or has no such file.
    except (OSError, RuntimeError, ValueError) as error:
        raise NoBrokerError(
            f"Kafka {VERSION} could not be downloaded ({error}): check the connection to Maven Central and try again, "
            "or set KAFKA_BOOTSTRAP=HOST:PORT to use a running broker"
        ) from error


def write_tools(report: Report = no_report) -> Path:
    """Write a script for each of Kafka's command-line tools; return their folder. Raises NoBrokerError."""
    folder = CACHE / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, main in TOOLS.items():
        command = shlex.join(java_command(main, *FAST_START, report=report))
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return folder


def tool_command(name: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs one of the tools. Raises NoBrokerError."""
    return [*java_command(TOOLS[name], *FAST_START), *arguments]


if __name__ == "__main__":
    try:
        download(lambda line: print(line, flush=True))
    except NoBrokerError as problem:
        sys.exit(str(problem))
