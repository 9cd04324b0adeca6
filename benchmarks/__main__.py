"""Run the benchmarks: python -m benchmarks [RUNTIME [name …]].

RUNTIME is laptop (the default) or another name of RUNTIMES; one that does not exist prints them.
"""

import asyncio
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NoReturn

from benchmarks import (
    against,
    cluster,
    delays,
    failover,
    flood,
    gateway,
    growth,
    hotname,
    laptop,
    live,
    lookback,
    memory,
    queued,
    readmodel,
    streams,
)
from benchmarks.functions import Figure, chosen
from stepstream.host.serving import collect_garbage_seldom


def _laptop(requested: set[str]) -> Iterator[Figure]:
    for measure in chosen(laptop.ALL, requested):
        yield from asyncio.run(measure())


def _names(measures: Iterable[object]) -> frozenset[str]:
    return frozenset(getattr(measure, "__name__", "") for measure in measures)


RUNTIMES = {
    "laptop": (_names(laptop.ALL), _laptop),
    "against": (_names(against.ALL), against.main),
    "cluster": (_names(cluster.ALL), cluster.main),
    "delays": (_names(delays.ALL), delays.main),
    "failover": (_names(failover.ALL), failover.main),
    "flood": (_names(flood.ALL), flood.main),
    "gateway": (_names(gateway.ALL), gateway.main),
    "growth": (_names(growth.ALL), growth.main),
    "lookback": (_names(lookback.ALL), lookback.main),
    "hotname": (_names(hotname.ALL), hotname.main),
    "memory": (_names(memory.ALL), memory.main),
    "queued": (_names(queued.ALL), queued.main),
    "readmodel": (_names(readmodel.ALL), readmodel.main),
    "live": (_names(live.ALL), live.main),
    "streams": (_names(streams.ALL), streams.main),
}


def _refuse(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Run the named benchmarks of a runtime, or all of it, and print each figure as it comes."""
    runtime, *requested = sys.argv[1:] or ["laptop"]
    if runtime not in RUNTIMES:
        _refuse(f"there is no runtime {runtime!r}, only {', '.join(RUNTIMES)}")
    names, measure = RUNTIMES[runtime]
    if unknown := set(requested) - names:
        _refuse(f"{runtime} has no benchmark {', '.join(sorted(unknown))}, only {', '.join(sorted(names))}")
    collect_garbage_seldom()  # As the commands do.
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores", flush=True)
    for figure in measure(set(requested)):
        aim = f"aim {figure.aim}" if figure.aim else figure.bar
        print(f"{figure.name:<52}{figure.value:>12,.2f} {figure.unit:<8}{aim}", flush=True)


if __name__ == "__main__":
    main()
