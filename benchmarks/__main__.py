"""Run the benchmarks: python -m benchmarks [name …]."""

import asyncio
import os
import platform
import sys
from datetime import UTC, datetime

from benchmarks import laptop


def main() -> None:
    """Run the named benchmarks, or all, and print a table."""
    wanted = set(sys.argv[1:])
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {os.cpu_count()} cores")
    for measure in laptop.ALL:
        if wanted and getattr(measure, "__name__", "") not in wanted:
            continue
        for figure in asyncio.run(measure()):
            print(
                f"{figure.name:<52}{figure.value:>12,.2f} {figure.unit:<8}{'aim ' + figure.aim if figure.aim else ''}"
            )


if __name__ == "__main__":
    main()
