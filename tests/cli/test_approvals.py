"""The commands `stepstream approvals list`, `approve` and `reject`, against a dev process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.serving import Serving

APP = """
from dataclasses import dataclass
from stepstream import App, Context, on

app = App("shop")


@dataclass
class Payout:
    amount: int


@app.function(on("go"))
async def refund(ctx: Context) -> object:
    first = await ctx.step.wait_for_approval("refund", title="Refund order 42?", form=Payout, to=["ann"], timeout="1h")
    second = await ctx.step.wait_for_approval("close", title="Close it?", timeout="1h")
    return [first.by, first.values.amount, second.approved, second.comment]
"""


@pytest.mark.slow
def test_commands_list_and_decide(tmp_path: Path) -> None:
    """What waits is listed, a decision resumes the run, and each mistake has its exit code and remedy."""
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()

    def approvals(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stepstream", "approvals", *arguments, "--url", serving.url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def until_asked(title: str) -> str:
        while title not in (shown := approvals("list", "--json").stdout):
            pass
        (asked,) = json.loads(shown)
        return str(asked["run_id"])

    try:
        assert approvals("list").stdout == "nothing waits for a decision\n"
        serving.send(0, 1)
        run = until_asked("Refund order 42?")
        assert "Refund order 42?" in approvals("list").stdout
        missing = approvals("approve", run)
        assert (missing.returncode, "values" in missing.stderr) == (1, True)
        assert approvals("approve", run, "--values", "{").returncode == 2
        done = approvals("approve", run[-6:], "refund", "--values", '{"amount": 12}', "--by", "ann")
        assert done.stdout == "approved: Refund order 42?\n"
        assert until_asked("Close it?") == run
        assert approvals("reject", run, "--comment", "too late").stdout == "rejected: Close it?\n"
        (ended,) = serving.until_completed()
        assert serving.outputs([ended]) == [["ann", 12, False, "too late"]]
        late = approvals("reject", run)
        assert (late.returncode, "waits for no decision" in late.stderr) == (1, True)
    finally:
        serving.kill()
