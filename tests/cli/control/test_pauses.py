"""The commands `stepstream runs pause` and `resume`, against a dev process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.serving import Serving
from tests.polling import until

APP = """
from stepstream import App, Context, on

app = App("shop", queues=["gpu"])


@app.function(on("go"))
async def order(ctx: Context) -> object:
    return await ctx.step.wait_for_signal("approval", signal="approval", timeout="1h")
"""

Stepstream = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.long
def test_commands_pause_and_resume(tmp_path: Path) -> None:
    """Lists and the run show the pause with its reason; a signal that comes meanwhile ends the run afterwards."""
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()

    def stepstream(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stepstream", *arguments, "--url", serving.url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def until_listed(filter: str) -> str:
        listed = until(lambda: json.loads(stepstream("runs", "list", "--filter", filter, "--json").stdout))
        return str(listed[0]["run_id"])

    try:
        sent = [sys.executable, "-m", "stepstream", "send", "go", "--url", serving.url]
        assert subprocess.run(sent, check=False, capture_output=True).returncode == 0
        run_id = until_listed("status:running")
        refused = stepstream("runs", "resume", run_id)
        assert (refused.returncode, f"run {run_id} is not paused" in refused.stderr) == (1, True)
        wrong = stepstream("runs", "pause", run_id, "--until", "soon")
        assert (wrong.returncode, "'soon' is not a time" in wrong.stderr) == (1, True)
        paused = stepstream("runs", "pause", run_id[-8:], "--until", "2h", "--why", "bank is down")
        assert paused.stdout.startswith("paused until 20")
        assert until_listed("paused:true") == run_id
        assert "paused until 20" in stepstream("runs", "list").stdout
        shown = stepstream("runs", "show", run_id).stdout
        assert "It was paused by local at 20" in shown
        assert "bank is down" in shown
        assert stepstream("runs", "pause", run_id).stdout == "paused\n"
        assert stepstream("signal", "approval", "--data", "1").returncode == 0
        assert stepstream("runs", "resume", run_id, "--json").stdout == '{"resumed": true}\n'
        assert until_listed("status:completed") == run_id
        for path in (("functions", "order"), ("queues", "shop", "gpu")):
            check_pause(stepstream, *path)
    finally:
        serving.kill()


def check_pause(stepstream: Stepstream, kind: str, *names: str) -> None:
    """Pause and resume a function or a queue, and once more without effect."""
    assert stepstream(kind, "pause", *names, "--why", "bank is down").stdout == "paused\n"
    until(lambda: "bank is down" in stepstream(kind, "paused").stdout)
    assert ".".join(names) in stepstream(kind, "paused").stdout
    assert stepstream(kind, "resume", *names).stdout == "resumed\n"
    assert stepstream(kind, "resume", *names).returncode == 1
    assert stepstream(kind, "pause", *names[:-1], "none").returncode == 1
