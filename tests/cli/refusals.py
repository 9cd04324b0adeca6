"""Runs a command in the process of a test, and checks how it was refused."""

from collections.abc import Mapping

from typer.testing import CliRunner, Result

from stepstream.cli.main import cli


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
