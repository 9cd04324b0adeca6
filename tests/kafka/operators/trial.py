"""A cluster of an engine and a worker that faults strike, and the runs that it completes meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stepstream.contract.codec import encode
from stepstream.contract.events import event_record
from stepstream.contract.history import RunBegan, RunEnded, decode_history
from stepstream.contract.topics import EVENTS, HISTORY
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.observed import Observed
from tests.kafka.operators.faults import OperatorFault, Site
from tests.polling import until

SHARDS = 2
APP = APPS / "members" / "long_app.py"


@dataclass(slots=True)
class Trial:
    """An engine and a worker of a cluster, and the events that were sent to it."""

    site: Site
    observed: Observed
    sent: int = 0

    @classmethod
    @contextmanager
    def start(cls, bootstrap: str, namespace: str, folder: Path) -> Iterator[Self]:
        """Provide a cluster whose processes are ready and that has completed a run."""
        with Fleet(bootstrap, namespace, folder, APP) as fleet, Observed(fleet) as observed:
            site = Site(fleet, SHARDS, "long")
            site.apply()
            fleet.add_engine()
            fleet.add_worker("--metrics-port", "0")
            trial = cls(site, observed)
            trial.until_ready()
            trial.complete()
            yield trial

    def until_ready(self) -> None:
        """Return when all processes are ready."""
        until(lambda: self.observed.answers("/ready") == {200})

    def reasons(self, role: str) -> list[str]:
        """Return why the processes of a role are not ready."""
        members = self.observed.engines if role == "engine" else self.observed.workers
        answers = [self.observed.client.get(f"{self.observed.url(member)}/ready").json() for member in members]
        return [answer.get("reason", "") for answer in answers]

    def send(self, partition: int = 0, text: str = "") -> str:
        """Write an event, which may have a long text, to a partition as any producer may; return its id."""
        self.sent += 1
        event = event_record("long/go", {"n": self.sent, "text": text}, id=f"go-{self.sent}")

        async def write() -> None:
            producer = await self.site.cluster.producer()
            await producer.send([NewRecord(EVENTS, partition, event.id.encode(), encode(event))])
            await producer.close()

        self.site.do(write())
        return event.id

    def complete(self, partition: int = 0) -> None:
        """Send an event, and return when its run has completed."""
        self.send(partition)
        number = self.sent
        until(lambda: self.ended().count("completed") >= number)

    def ended(self) -> list[str]:
        """Return the statuses of the runs that have ended, by the topic `history`."""
        return [entry.status for entry in self.history() if isinstance(entry, RunEnded) and entry.function == "work"]

    def begun(self) -> int:
        """Return how many runs have begun."""
        return sum(isinstance(entry, RunBegan) and entry.function == "work" for entry in self.history())

    def history(self) -> list[object]:
        """Return the entries of `history`."""

        async def read() -> list[object]:
            reader = await self.site.cluster.reader()
            try:
                places = [(HISTORY, shard) for shard in range(SHARDS)]
                reader.assign(places)
                reader.seek(await reader.beginnings(places))
                ends = await reader.ends(places)
                found: list[object] = []
                while any([await reader.position(at) < ends[at] for at in places]):
                    found += [decode_history(record.value) for record in await reader.read(500, 100)]
                return found
            finally:
                await reader.close()

        found: list[object] = self.site.do(read())
        return found

    def strike(self, fault: OperatorFault) -> None:
        """Strike with a fault; return when it is reported."""
        before = self.site.logged(fault.logged, fault.role)
        fault.strike(self.site)
        until(lambda: fault.is_reported(self.site, before))
        if fault.unready:
            until(lambda: all(fault.unready in reason for reason in self.reasons(fault.role)))

    def recover(self, fault: OperatorFault) -> None:
        """Remedy a fault; return when that is logged and all processes are ready."""
        fault.remedy(self.site)
        if fault.recovered:
            until(lambda: self.site.logged(fault.recovered, fault.role) > 0)
        self.until_ready()
