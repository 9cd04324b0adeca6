"""Bulk operations by the command line, against a dev process: preview, question, progress and end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.serving import Serving

APP = """
from stepstream import App, Context, on

app = App("many")


@app.function(on("go"))
async def wait(ctx: Context) -> int:
    await ctx.step.wait_for_signal("wait", signal=f"s{ctx.event.data['n']}", timeout="1h")
    return 1
"""


@pytest.mark.slow
def test_commands_act_on_many_runs(tmp_path: Path) -> None:
    """A preview changes nothing, a question may be denied, and the outcomes are printed and listed."""
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()

    def stepstream(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stepstream", *arguments, "--url", serving.url]
        return subprocess.run(command, capture_output=True, text=True, check=False, input=input)

    try:
        serving.send(0, 12)
        while {run["status"] for run in serving.runs()} != {"running"} or len(serving.runs()) < 12:
            pass
        held = stepstream("runs", "pause", "--filter", "function:wait", "--until", "2h", "--yes")
        assert (held.returncode, "completed: 12 paused" in held.stdout) == (0, True), held
        assert all(run["paused"] for run in serving.runs())
        resumed = stepstream("runs", "resume", "--filter", "paused:true", input="y\n")
        assert (resumed.returncode, "completed: 12 resumed" in resumed.stdout) == (0, True), resumed
        assert not any(run["paused"] for run in serving.runs())
        cancel = ("runs", "cancel", "--filter", "function:wait", "--why", "a test")
        preview = json.loads(stepstream(*cancel, "--dry-run", "--json").stdout)
        assert (preview["count"], len(preview["sample"])) == (12, 10)
        denied = stepstream(*cancel, input="n\n")
        assert (denied.returncode, "12 runs to cancel, 2 of them not shown" in denied.stdout) == (1, True)
        assert {run["status"] for run in serving.runs()} == {"running"}
        done = stepstream(*cancel, input="y\n")
        assert (done.returncode, "completed: 12 cancelled" in done.stdout) == (0, True), done
        assert {run["status"] for run in serving.runs()} == {"cancelled"}

        rerun = ("runs", "rerun", "--filter", "status:cancelled", "--yes")
        repeated = stepstream(*rerun, "--json")
        shown = json.loads(repeated.stdout)
        assert (shown["state"], shown["outcomes"]) == ("completed", {"started": 12})
        listed = json.loads(stepstream("bulk", "list", "--json").stdout)
        assert [(each["action"], each["why"]) for each in listed[:2]] == [("rerun", ""), ("cancel", "a test")]
        assert "outcomes: 12 started" in stepstream("bulk", "show", shown["id"]).stdout
        ended = stepstream("bulk", "cancel", shown["id"])
        assert (ended.returncode, "the operation is completed already" in ended.stderr) == (1, True)

        assert stepstream("bulk", "show", "none").returncode == 1
        assert "narrow the filter or raise the cap" in stepstream(*cancel, "--cap", "5", "--yes").stderr
        assert stepstream(*rerun, "--from-step", "wait").returncode == 2
        assert stepstream("runs", "rerun", "0" * 26, "--filter", "status:failed").returncode == 2
        assert "there is no run to cancel" in stepstream("runs", "cancel", "--filter", "app:none", "--yes").stderr
    finally:
        serving.kill()
