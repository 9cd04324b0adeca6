"""A worker process that is stopped while a body in a thread does not end."""

import signal
import subprocess
import sys


def test_a_body_that_outlasts_the_drain_does_not_keep_the_process() -> None:
    """Python would wait for its thread at exit, although another worker runs that body again."""
    command = [sys.executable, "-m", "tests.host.stubborn_worker"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, "a step did not finish in 0.2 s" in log) == (0, True)
