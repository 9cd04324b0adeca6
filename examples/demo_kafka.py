"""Replay the same day through real Kafka: two engines and two workers, one of each killed, and the same figures.

    python examples/demo_kafka.py                         # with its own broker, from tests/kafka
    python examples/demo_kafka.py --kafka HOST:PORT       # with yours

The day's events are produced to the topic `events`, in order, an hour in little more than a second; FLIGHTS_SPEED
shortens the timeouts of the functions accordingly. Half-way an engine is killed with SIGKILL and restarted, later a
worker. The table is counted from the outputs of the flights' runs, and must equal the sums of the day's own run; the
exit code is 1 if it does not. The runs for disrupted flights end, or wait, as they do without Kafka.
"""

import argparse
import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from demo import DISRUPTIONS, FLIGHTS, STEPSTREAM, Report, count, outputs, statuses
from flights import COMPENSATED_MIN
from flights_events import write_events
from rich.console import Console

HERE = Path(__file__).parent
SHARDS, SPEED = 4, 2_880.0
# A second demo on the same broker has the same event ids, which would start nothing.
NAMESPACE = f"flights-{time.time_ns() // 1_000_000_000}"
READY_S_MAX, END_S_MAX, STOP_S_MAX = 90.0, 300.0, 30.0
_LOOK_S, _ANSWER_S_MAX = 0.2, 10.0
# Requests go to this machine: no proxy of the environment is used.
_HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Process:
    """An engine or a worker that can be killed and restarted with its name and its disk."""

    def __init__(
        self, folder: Path, name: str, arguments: list[str], port: int, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.port = port
        self._command = [STEPSTREAM, *arguments]
        self._environment = {**os.environ, **environment, "STEPSTREAM_INSTANCE": name}
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it with SIGTERM, as an operator does."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.kill()

    async def ask(self, path: str) -> Any:
        """Return its answer over HTTP, or None if there is none yet."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> Any:
        try:
            with _HTTP.open(f"http://127.0.0.1:{self.port}{path}", timeout=_ANSWER_S_MAX) as answer:
                return json.load(answer)
        except OSError:
            return None

    async def until_ready(self) -> None:
        """Return when it is ready; exit with its log if it does not become ready."""
        try:
            async with asyncio.timeout(READY_S_MAX):
                while True:
                    if await self.ask("/ready") is not None:
                        return
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            sys.exit(f"{self.name} did not start\n{self._log.read_text()[-3_000:]}")


@contextmanager
def cluster(folder: Path, bootstrap: str) -> Iterator[list[Process]]:
    """Make the topics and run two engines and two workers."""
    environment = {
        "STEPSTREAM_KAFKA_BOOTSTRAP": bootstrap,
        "STEPSTREAM_KAFKA_NAMESPACE": NAMESPACE,
        "FLIGHTS_SPEED": str(SPEED),
    }
    topics = [STEPSTREAM, "topics", "apply", "--shards", str(SHARDS), "--app", "flights"]
    done = subprocess.run(topics, check=False, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the topics could not be created\n{done.stderr}")
    made: list[Process] = []
    for number in (1, 2):
        port, name = free_port(), f"engine-{number}"
        arguments = ["engine", "--data-dir", str(folder / name), "--port", str(port)]
        made.append(Process(folder, name, arguments, port, environment))
    for number in (1, 2):
        port = free_port()
        arguments = ["worker", str(HERE / "flights.py"), "--metrics-port", str(port)]
        made.append(Process(folder, f"worker-{number}", arguments, port, environment))
    with ExitStack() as stack:
        for process in made:
            process.start()
            stack.callback(process.stop)
        yield made


async def feed(bootstrap: str, events: list[dict[str, Any]], members: list[Process], console: Console) -> None:
    """Produce the events at their times; kill an engine, later a worker, and continue when each is ready again."""
    loop = asyncio.get_running_loop()
    victims = {len(events) * 2 // 5: members[0], len(events) * 3 // 5: members[2]}
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        first, begun = events[0]["ts"], loop.time()
        for number, event in enumerate(events):
            await asyncio.sleep(begun + (event["ts"] - first) / 1_000 / SPEED - loop.time())
            record = {"name": event["name"], "id": event["id"], "data": event["data"]}
            await producer.send_and_wait(f"{NAMESPACE}.events", json.dumps(record).encode(), key=event["id"].encode())
            if victim := victims.get(number):
                stopped = loop.time()
                victim.kill()
                victim.start()
                await victim.until_ready()
                console.print(
                    f"Killed {victim.name} (SIGKILL) after {number:,} of {len(events):,} events; "
                    f"it was ready again after {loop.time() - stopped:.1f} s."
                )
                begun += loop.time() - stopped
    finally:
        await producer.stop()


async def ended(engine: Process, function: str, expected: int, *, or_waits: bool = False) -> list[dict[str, Any]]:
    """Return a function's runs once the expected number has ended; with `or_waits` those that wait count, too."""
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(END_S_MAX):
            while len(found) < expected:
                await asyncio.sleep(5 * _LOOK_S)
                runs = await _runs(engine, f"function:{function}")
                found = [run for run in runs if run["ended_at"] or (or_waits and _waits(run))]
    except TimeoutError:
        what = "have ended or wait" if or_waits else "have ended"
        sys.exit(f"only {len(found)} of {expected} runs of {function} {what}")
    return found


def _waits(run: Mapping[str, Any]) -> bool:
    """Return whether a run waits for a decision or an event, and not for its next attempt."""
    return run["waits"] is not None and run["waits"]["state"] == "waiting"


async def whole(engine: Process, runs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return runs with their outputs."""
    found = [await engine.ask(f"/v1/runs/{run['run_id']}") for run in runs]
    if None in found:
        sys.exit(f"{engine.name} no longer answers")
    return found


async def _runs(engine: Process, filter: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = []
    page: list[dict[str, Any]] = []
    while not runs or page:
        query = {"filter": filter, "limit": 200, **({"before": runs[-1]["run_id"]} if runs else {})}
        answer = await engine.ask(f"/v1/runs?{urlencode(query)}")
        page = answer["runs"] if answer else []
        runs += page
        if not runs:
            break
    return runs


async def fly(source: Path, folder: Path, bootstrap: str, console: Console) -> Report:
    """Run the day of `source`; return what was counted."""
    path = folder / "events.jsonl"
    console.print(f"{write_events(source, path):,} events, made from {source.name}.")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    flights = sum(event["name"] == "flight/scheduled" for event in events)
    with cluster(folder, bootstrap) as members:
        await asyncio.gather(*(member.until_ready() for member in members))
        console.print(f"Two engines and two workers serve {SHARDS} shards on {bootstrap}; an hour takes 1.25 s.")
        await feed(bootstrap, events, members, console)
        console.print("All events are produced; the waits of flights that never departed time out soon.")
        followed = outputs(await whole(members[0], await ended(members[0], "follow-flight", flights)))
        sums = outputs(await whole(members[1], await ended(members[1], "sum-up-day", 1)))
        disrupted = dict(zip(DISRUPTIONS, count_disrupted(followed), strict=True))
        functions = {
            function: statuses(await ended(members[0], function, expected, or_waits=True))
            for function, expected in disrupted.items()
        }
        return Report(count(followed), sums, functions)


def count_disrupted(outcomes: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return of how many flights the passengers are compensated, and of how many they are rebooked."""
    compensated = sum(outcome["delay_min"] >= COMPENSATED_MIN for outcome in outcomes)
    return compensated, sum(outcome["status"] != "flown" for outcome in outcomes)


def main() -> None:
    """Run the demo in a temporary folder, which is removed afterwards."""
    parser = argparse.ArgumentParser(description="Replay a day through Kafka, and kill an engine and a worker.")
    parser.add_argument("--kafka", help="a broker, HOST:PORT; without it one is started from tests/kafka")
    parser.add_argument(
        "--flights", type=Path, default=FLIGHTS, metavar="CSV", help="the flights of one day (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the table as JSON; everything else goes to stderr")
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    if arguments.kafka:
        os.environ["KAFKA_BOOTSTRAP"] = arguments.kafka
    # The broker is one of the tests, which are not installed.
    sys.path.append(str(HERE.parent))
    broker = importlib.import_module("tests.kafka.cluster.broker")
    try:
        with tempfile.TemporaryDirectory(prefix="stepstream-demo-") as folder, broker.running_broker() as bootstrap:
            report = asyncio.run(fly(arguments.flights, Path(folder), bootstrap, console))
    except broker.NoBrokerError as error:
        sys.exit(str(error))
    except KafkaError as error:
        sys.exit(f"the broker failed during the demo: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; all processes have ended")
    report.show(console, as_json=arguments.json)
    report.check(console, "the kills")


if __name__ == "__main__":
    main()
