"""The size of what a process keeps on its disk, and what is left."""

import asyncio
from pathlib import Path

import pytest

from stepstream.host.monitoring import disk
from stepstream.host.monitoring.disk import DiskGauges
from stepstream.runtime.metrics import Reading


async def test_tables_and_runs_are_measured_separately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of runs with its write-ahead log, the tables of all shards, and the free space."""
    (tmp_path / "shard-0").mkdir()
    (tmp_path / "shard-1").mkdir()
    for name, size in (("shard-0/1.sst", 100), ("shard-1/1.sst", 20), ("runs.sqlite", 5), ("runs.sqlite-wal", 2)):
        (tmp_path / name).write_bytes(bytes(size))
    gauges = DiskGauges(tmp_path)
    assert not list(gauges.read())
    measured = asyncio.Event()
    loop, measure = asyncio.get_running_loop(), disk._measure

    def again(data_dir: Path) -> list[Reading]:
        if list(gauges.read()):
            loop.call_soon_threadsafe(measured.set)
        return measure(data_dir)

    monkeypatch.setattr(disk, "MEASURE_S", 0)
    monkeypatch.setattr(disk, "_measure", again)
    measuring = asyncio.ensure_future(gauges.measure())
    await asyncio.wait_for(measured.wait(), 10)
    measuring.cancel()
    found = {(each.name, *each.labels): each.value for each in gauges.read()}
    assert found["disk_used_bytes", "tables"] == 120
    assert found["disk_used_bytes", "read_model"] == 7
    assert 0 < found["disk_free_bytes",] < found["disk_size_bytes",]


def test_a_folder_that_is_gone_has_no_free_space(tmp_path: Path) -> None:
    """An unknown figure is left out."""
    names = [each.name for each in disk._measure(tmp_path / "none")]
    assert names == ["disk_used_bytes", "disk_used_bytes"]
