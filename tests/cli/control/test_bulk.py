"""Bulk operations by the command line, against a dev process: preview, question, progress and end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepstream.cli import main
from stepstream.cli.client import EngineClient, Refused
from stepstream.cli.control import bulk
from tests.cli.serving import Serving
from tests.polling import until

APP = """
from stepstream import App, Context, on

app = App("many")


@app.function(on("go"))
async def wait(ctx: Context) -> int:
    await ctx.step.wait_for_signal("wait", signal=f"s{ctx.event.data['n']}", timeout="1h")
    return 1
"""
CANCEL = ("runs", "cancel", "--filter", "function:wait", "--why", "a test")
RERUN = ("runs", "rerun", "--filter", "status:cancelled", "--yes")


class Terminal:
    """Commands against a dev process in which twelve runs wait."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        serving.send(0, 12)
        until(lambda: [run["status"] for run in serving.runs()] == ["running"] * 12)

    def run(self, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command, and enter a text."""
        command = [sys.executable, "-m", "stepstream", *arguments, "--url", self.serving.url]
        return subprocess.run(command, capture_output=True, text=True, check=False, input=input)

    def ended(self, *arguments: str, input: str = "") -> tuple[int, str]:
        """Run a command; return its exit status and its last line."""
        done = self.run(*arguments, input=input)
        return done.returncode, (done.stdout or done.stderr).splitlines()[-1]

    def statuses(self) -> set[str]:
        """Return the statuses that runs have."""
        return {str(run["status"]) for run in self.serving.runs()}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Commands against a dev process."""
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()
    try:
        yield Terminal(serving)
    finally:
        serving.kill()


@pytest.mark.long
def test_commands_act_on_many_runs(terminal: Terminal) -> None:
    """A preview changes nothing, a question may be denied, and the outcomes are printed and listed."""
    preview = json.loads(terminal.run(*CANCEL, "--dry-run", "--json").stdout)
    assert (preview["count"], len(preview["sample"])) == (12, 10)
    denied = terminal.run(*CANCEL, input="n\n")
    assert (denied.returncode, "12 runs to cancel, 2 of them not shown" in denied.stdout) == (1, True)
    assert terminal.statuses() == {"running"}
    assert terminal.ended(*CANCEL, input="y\n") == (0, "Cancel 12 runs? [y/N]: completed: 12 cancelled")
    assert terminal.statuses() == {"cancelled"}

    shown = json.loads(terminal.run(*RERUN, "--json").stdout)
    assert (shown["state"], shown["outcomes"]) == ("completed", {"started": 12})
    listed = json.loads(terminal.run("bulk", "list", "--json").stdout)
    assert [(each["action"], each["why"]) for each in listed] == [("rerun", ""), ("cancel", "a test")]
    assert "outcomes: 12 started" in terminal.run("bulk", "show", shown["id"]).stdout
    ended = terminal.run("bulk", "cancel", shown["id"])
    assert (ended.returncode, "the operation is completed already" in ended.stderr) == (1, True)

    assert terminal.run("bulk", "show", "none").returncode == 1
    assert "narrow the filter or raise the cap" in terminal.run(*RERUN, "--cap", "5").stderr
    assert terminal.run(*RERUN, "--from-step", "wait").returncode == 2
    assert terminal.run("runs", "rerun", "0" * 26, "--filter", "status:failed").returncode == 2
    assert "there is no run to cancel" in terminal.run("runs", "cancel", "--filter", "app:none", "--yes").stderr


@pytest.mark.long
def test_commands_pause_resume_and_cancel_many_runs(terminal: Terminal) -> None:
    """All runs of a filter are paused and resumed; one is cancelled for a reason, and then all of its function."""
    pause = ("runs", "pause", "--filter", "function:wait", "--until", "2h", "--yes")
    assert terminal.ended(*pause) == (0, "completed: 12 paused")
    assert all(run["paused"] for run in terminal.serving.runs())
    resume = ("runs", "resume", "--filter", "paused:true", "--yes")
    assert terminal.ended(*resume) == (0, "completed: 12 resumed")
    assert not any(run["paused"] for run in terminal.serving.runs())

    one = str(terminal.serving.runs()[0]["run_id"])
    assert terminal.run("runs", "cancel", one, "--why", "a single one").stdout == "cancelled\n"
    until(lambda: "the run was cancelled by local: a single one" in terminal.run("runs", "show", one).stdout)
    cancel = ("runs", "cancel", "--function", "wait", "--why", "again")
    denied = terminal.run(*cancel, input="n\n")
    assert (denied.returncode, "Cancel 11 runs?" in denied.stdout) == (1, True), denied
    assert terminal.ended(*cancel, "--yes") == (0, "completed: 11 cancelled")
    none = terminal.run("runs", "cancel", "--function", 'wai" status:open')
    assert "0 runs to cancel" in none.stdout
    assert "no run of a function 'wai\" status:open'; there are runs of wait" in none.stderr
    refused = terminal.run("runs", "cancel", "abcdef", "--function", "wait")
    assert (refused.returncode, "the id of a run, --filter or --function" in refused.stderr) == (2, True)


def test_runs_that_failed_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command names them with the reason, and its exit status is 1."""
    failures = [{"run_id": "01", "reason": "ValueError: a \x1b[31mbug"}]
    shown = {
        "id": "b",
        "action": "cancel",
        "state": "completed",
        "sent": 2,
        "total": 2,
        "until": 0,
        "by": "",
        "why": "",
    }
    shown |= {"ended_by": "", "outcomes": {"cancelled": 1, "failed": 1}, "failures": failures}
    answers = {"POST": {"id": "b", "state": "running", "count": 2}, "GET": shown}
    monkeypatch.setattr(EngineClient, "request", lambda _, method, *__, **___: answers[method])
    done = CliRunner().invoke(main.cli, ["runs", "cancel", "--filter", "function:wait", "--yes"])
    assert (done.exit_code, done.stdout.splitlines()[0]) == (1, "completed: 1 cancelled, 1 failed")
    assert done.stdout.splitlines()[1] == "run 01: ValueError: a \\u001b[31mbug"
    assert CliRunner().invoke(main.cli, ["bulk", "show", "b"]).stdout.endswith(done.stdout.splitlines()[1] + "\n")


@pytest.mark.parametrize(("exact", "count"), [(True, "3 of them"), (False, "at least 3 of them")])
def test_a_preview_says_how_many_runs_were_rerun(monkeypatch: pytest.MonkeyPatch, exact: bool, count: str) -> None:
    """The engine may not have examined all runs."""
    answer = {"action": "rerun", "count": 5, "sample": [], "rerun_before": 3, "rerun_before_exact": exact}
    monkeypatch.setattr(EngineClient, "request", lambda *_, **__: answer)
    done = CliRunner().invoke(main.cli, ["runs", "rerun", "--filter", "status:failed", "--dry-run"])
    assert done.stdout.splitlines()[1] == f"{count} rerun before; leave these out with rerun:false"


def test_an_operation_that_is_no_longer_listed_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list may lag behind for a while; then the command says that the engine continues, and how to look."""
    asked: list[str] = []

    def answer(_: EngineClient, method: str, *__: str, **___: object) -> dict[str, object]:
        asked.append(method)
        if method == "GET":
            raise Refused("the key is wrong")
        return {"id": "b", "state": "running", "count": 2}

    monkeypatch.setattr(EngineClient, "request", answer)
    monkeypatch.setattr(bulk, "_POLL_S", 0)
    done = CliRunner().invoke(main.cli, ["runs", "cancel", "--filter", "function:wait", "--yes"])
    assert (done.exit_code, asked.count("GET")) == (1, 61)
    assert "the key is wrong\nthe engine continues; see `stepstream bulk show b`" in done.stderr
