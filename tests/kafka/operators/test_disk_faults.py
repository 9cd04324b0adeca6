"""A disk of an engine that is full or damaged ends nothing: what was accepted is processed once there is space."""

import functools
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.refusals import WITHOUT_PRIVILEGES, refused
from tests.disk import SmallDisk
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.operators.trial import Trial
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk that has the tables of the first engine."""
    made = SmallDisk(tmp_path / "engine-0")
    yield made
    made.remove()


def test_engine_resumes_once_its_disk_has_space(bootstrap: str, tmp_path: Path, disk: SmallDisk) -> None:
    """It accepts events, says why it is not ready, and processes each event once; its log has no traceback."""
    with Trial.start(bootstrap, "full", tmp_path) as trial:
        (engine,) = trial.site.fleet.engines
        disk.fill(engine.pid)
        # Small rows may still fit into the last block of a file.
        for partition in (0, 1):
            trial.send(partition, "x" * 100_000)
        # It tries again meanwhile, and then says for a moment that the shard is starting.
        words = ("cannot be used (", "free space on its disk")
        until(lambda: all(word in trial.reasons("engine")[0] for word in words))
        trial.send()
        disk.free(engine.pid)
        trial.until_ready()
        trial.complete()
        assert trial.ended() == ["completed"] * trial.sent
        assert "Traceback" not in engine.log.read_text()


def test_damaged_tables_are_rebuilt(bootstrap: str, tmp_path: Path) -> None:
    """Whatever is damaged: the engine rebuilds the tables of the shard from the changelog, in one line of its log."""
    with Trial.start(bootstrap, "damaged", tmp_path) as trial:
        (engine,) = trial.site.fleet.engines
        for name, damage in (
            ("MANIFEST-*", Path.unlink),
            ("CURRENT", lambda file: file.write_bytes(b"garbage")),
            ("*.log", lambda file: file.write_bytes(b"\xa5" * 20_000)),
            ("*.sst", lambda file: file.write_bytes(b"")),
        ):
            engine.kill()
            for shard in engine.disk.glob("shard-*"):
                for file in shard.glob(name):
                    damage(file)
            engine.start()
            trial.until_ready()
            trial.complete()
        assert trial.ended() == ["completed"] * trial.sent
        log = engine.log.read_text()
        assert "are corrupt; they are deleted and rebuilt from the changelog: Corruption: " in log
        assert "Traceback" not in log


def test_engine_ends_on_unusable_state(bootstrap: str, tmp_path: Path) -> None:
    """Its only line has the remedy: a folder, or a list of runs, that it may not write; a full disk."""
    fleet, folder = Fleet(bootstrap, "unusable", tmp_path), tmp_path / "state"
    fleet.command("topics", "apply", "--shards", "1")
    cluster = ["--kafka", bootstrap, "--namespace", "unusable", "--port", "0", "--data-dir", "state"]
    engine = [*WITHOUT_PRIVILEGES, sys.executable, "-m", "stepstream", "engine", *cluster]
    denied = functools.partial(refused, engine, tmp_path)
    folder.mkdir(mode=0o500)
    assert "state cannot hold state (Permission denied); choose another folder with --data-dir" in denied()
    folder.chmod(0o700)
    (folder / "LOCK").touch()
    folder.chmod(0o500)
    assert "the list of runs in state/runs.sqlite cannot be used (unable to open" in denied()
    folder.chmod(0o700)
    full = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
    assert "the list of runs in state/runs.sqlite cannot be used (" in denied(full)
