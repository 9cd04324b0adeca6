"""Runs a command, in the process of a test or in one of its own, and checks how it was refused."""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from typer.testing import CliRunner, Result

from stepstream.cli.main import cli

# Root may write anywhere; without these capabilities the rights of a file count for root as for any other user.
WITHOUT_PRIVILEGES = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def invoke(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(each) for each in arguments], env={"COLUMNS": "250", **(env or {})})


def assert_refused(done: Result, reason: str, code: int = 2) -> None:
    """Check that a command ended with a code and one sentence."""
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert "Traceback" not in done.output


def refused(command: Sequence[str], folder: Path, limit: Callable[[], None] | None = None, **variables: str) -> str:
    """Return the only line of a process that ends with 2; `limit` is called in the process before it starts."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "400", **variables},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line
