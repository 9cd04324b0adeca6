"""A worker process that is stopped while a body does not end."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def stubborn_worker(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Provide a worker process whose body is running and never ends; kill it afterwards."""
    command = [sys.executable, "-m", "tests.host.stubborn_worker", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_body_that_outlasts_the_drain_does_not_keep_the_process() -> None:
    """Python would wait for its thread at exit, although another worker runs that body again."""
    with stubborn_worker() as process:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert (process.returncode, "a step did not finish in 0.2 s" in log) == (0, True)


@pytest.mark.slow
@pytest.mark.parametrize("second", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_second_signal_ends_a_process_that_spins(second: signal.Signals) -> None:
    """The event loop is blocked by a coroutine that never awaits, so nothing can drain; one line says what is lost."""
    with stubborn_worker("spin") as process:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(second)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + second
    assert f"{second.name} again: the process ends at once; step bodies that were running, and will run again: 1" in log
