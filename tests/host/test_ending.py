"""A worker process that is asked to end while a body in a thread does not."""

import signal
import subprocess
import sys


def test_a_plain_body_that_outlasts_a_drain_does_not_keep_its_process() -> None:
    """Python waits for threads at its exit; another worker begins that body again, and nobody waits for this one."""
    command = [sys.executable, "-m", "tests.host.stubborn_worker"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "at work\n"
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, "a step did not end in 0.2 s" in log) == (0, True)
