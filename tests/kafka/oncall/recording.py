"""What Prometheus would record of the processes of a trial, and the shipped alerts that fire on it."""

import asyncio
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from tests.deploy.evaluation import NAME, RULES, Database, Labels, Samples, firings
from tests.deploy.promql import asked_of
from tests.kafka.cluster.observed import Observed
from tests.runtime.exposition import Scrape

# As deploy/prometheus/prometheus.yml has them.
SCRAPE_S, EVALUATE_S = 5, 15
_USED = frozenset(asked.name for rule in RULES.values() for asked in asked_of(rule["expr"]))
_SAMPLE = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fired: from when to when (s since the start of the recording), and where."""

    alert: str
    began_s: float
    ended_s: float
    labels: tuple[tuple[str, str], ...]

    @property
    def pages(self) -> bool:
        """Whether it wakes someone."""
        return bool(RULES[self.alert]["labels"]["severity"] == "page")

    @property
    def namespace(self) -> str:
        """The namespace of the cluster that it is about."""
        return dict(self.labels)["namespace"]

    def __str__(self) -> str:
        """Return it with its labels and times."""
        labels = ", ".join(f"{name}={value}" for name, value in self.labels)
        kind = "page" if self.pages else "ticket"
        return f"{kind} {self.alert} ({labels}) from {self.began_s:.0f} s to {self.ended_s:.0f} s"


@dataclass(slots=True)
class Recording:
    """The series of all processes of some fleets, by namespace, that the alerts use."""

    fleets: dict[str, Observed]
    began: float = field(default_factory=time.monotonic)
    _series: dict[Labels, Samples] = field(default_factory=dict)
    # The series that the last scrape of a process returned.
    _latest: dict[tuple[str, str], set[Labels]] = field(default_factory=dict)

    async def record(self) -> None:
        """Scrape all processes at the interval of Prometheus, without end."""
        async with httpx.AsyncClient(timeout=SCRAPE_S - 1, trust_env=False) as client:
            while True:
                due = time.monotonic() + SCRAPE_S
                await self._scrape(client)
                await asyncio.sleep(due - time.monotonic())

    async def _scrape(self, client: httpx.AsyncClient) -> None:
        at_s = time.monotonic() - self.began
        targets = {
            (namespace, member.name): (job, observed.url(member))
            for namespace, observed in self.fleets.items()
            for job, members in (("stepstream-engine", observed.engines), ("stepstream-worker", observed.workers))
            for member in members
        }
        texts = await asyncio.gather(*(_text(client, url) for _, url in targets.values()))
        for (target, (job, _)), text in zip(targets.items(), texts, strict=True):
            common = {"namespace": target[0], "instance": target[1], "job": job}
            self._add(target, at_s, {_labels("up", common): float(bool(text)), **_samples(text, common)})
        for target in self._latest.keys() - targets.keys():
            self._add(target, at_s, {})

    def _add(self, target: tuple[str, str], at_s: float, found: dict[Labels, float]) -> None:
        ended = dict.fromkeys(self._latest.get(target, set()) - found.keys(), math.nan)
        for labels, value in (found | ended).items():
            self._series.setdefault(labels, []).append((at_s, value))
        self._latest[target] = set(found)

    @property
    def database(self) -> Database:
        """What was recorded until now."""
        return Database(self._series)

    def firings(self) -> list[Firing]:
        """Return all alerts that have fired until now, in the order of time."""
        return firings_on(self.database, time.monotonic() - self.began)


def firings_on(database: Database, until_s: float) -> list[Firing]:
    """Return all alerts that fire on some series until a time (s since their start), in the order of time."""
    times_s = range(EVALUATE_S, int(until_s) + 1, EVALUATE_S)
    found = [each for alert, rule in RULES.items() for each in _spans(alert, firings(rule, database, times_s))]
    return sorted(found, key=lambda each: each.began_s)


def _spans(alert: str, evaluations: Iterator[tuple[float, set[Labels]]]) -> Iterator[Firing]:
    began: dict[Labels, float] = {}
    at_s = 0.0
    for at_s, firing in evaluations:
        for labels in began.keys() - firing:
            yield Firing(alert, began.pop(labels), at_s, tuple(sorted(labels)))
        began = {labels: began.get(labels, at_s) for labels in firing}
    yield from (Firing(alert, since_s, at_s, tuple(sorted(labels))) for labels, since_s in began.items())


async def _text(client: httpx.AsyncClient, url: str) -> str:
    try:
        return (await client.get(f"{url}/metrics")).text if url else ""
    except httpx.TransportError:
        return ""


def _labels(name: str, *labels: dict[str, str]) -> Labels:
    return frozenset({NAME: name, **{key: value for each in labels for key, value in each.items()}}.items())


def _samples(text: str, common: dict[str, str]) -> dict[Labels, float]:
    """Return the samples of a scrape that alerts use; the parser reads these lines only, which takes less CPU."""
    lines: Sequence[str] = [
        line for line in text.splitlines() if (name := _SAMPLE.match(line)) and name.group() in _USED
    ]
    scrape = Scrape("\n".join([*lines, ""]))
    return {_labels(name, labels, common): value for name in _USED for labels, value in scrape.values(name)}
