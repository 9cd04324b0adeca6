"""Kill processes under agents that stream, at length: python -m tests.kafka.chaos.agents_run KILLS=50 SEED=7."""

import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.agents import SHARDS, observe
from tests.kafka.cluster.broker import running_broker
from tests.kafka.cluster.fleet import APPS, Fleet, Member


def main(kills: int, seed: int) -> int:
    """Kill so many processes, print what is wrong, and return 1 if anything is."""
    drawn = random.Random(seed)

    def plan(fleet: Fleet) -> Iterator[Sequence[Member]]:
        killed = 0
        while killed < kills:
            members = drawn.sample(fleet.members, drawn.randint(1, len(fleet.members)))
            killed += len(members)
            print(f"{killed} of {kills}: {[member.name for member in members]}", flush=True)
            yield members

    folder = Path(tempfile.mkdtemp(prefix="stepstream-agents-"))
    with running_broker() as bootstrap, Fleet(bootstrap, "agents", folder, APPS / "chaos/agents_app.py") as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "agents")
        wrong = asyncio.run(observe(fleet, Cluster(KafkaSettings(bootstrap, "agents")), plan))
    print("\n".join(wrong) or "nothing is wrong", f"SEED={seed}; the logs are in {folder}", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    sys.exit(main(int(given.get("KILLS", 50)), int(given.get("SEED", random.randrange(10**6)))))
