"""Run the benchmarks: python -m benchmarks [laptop|cluster] [name …]."""

import asyncio
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks import cluster, laptop
from benchmarks.functions import Figure


def _laptop(wanted: set[str]) -> Iterator[Figure]:
    for measure in laptop.ALL:
        if not wanted or getattr(measure, "__name__", "") in wanted:
            yield from asyncio.run(measure())


def main() -> None:
    """Run the named benchmarks of a runtime, or all of it, and print each figure as it comes."""
    runtime, *wanted = sys.argv[1:] or ["laptop"]
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores", flush=True)
    for figure in {"laptop": _laptop, "cluster": cluster.main}[runtime](set(wanted)):
        aim = f"aim {figure.aim}" if figure.aim else ""
        print(f"{figure.name:<52}{figure.value:>12,.2f} {figure.unit:<8}{aim}", flush=True)


if __name__ == "__main__":
    main()
