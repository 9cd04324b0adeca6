"""The commands `stepstream approvals list`, `approve`, `reject` and `link`, against a dev process."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.cli.serving import Serving
from tests.polling import until

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


def run_command(serving: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Return how a command about approvals ended."""
    command = [sys.executable, "-m", "stepstream", "approvals", *arguments, "--url", serving.url]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_that_asks(serving: Serving, title: str) -> str:
    """Return the id of the only run that waits for a decision, once it asks this."""

    def listed() -> str:
        shown = run_command(serving, "list", "--json").stdout
        return shown if title in shown else ""

    (asked,) = json.loads(until(listed))
    return str(asked["run_id"])


@pytest.mark.long
@pytest.mark.slow
def test_a_link_opens_the_page_of_an_approval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an API key, the command prints a link that a browser without the key can open."""
    monkeypatch.setenv("STEPSTREAM_API_KEY", "secret")
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()
    try:
        serving.send(0, 1)
        run = run_that_asks(serving, "Refund order 42?")
        (link,) = run_command(serving, "link", run, "--expires", "1h", "--by", "ann").stdout.splitlines()
        page = httpx.get(link)
        assert (page.status_code, "You decide as" in page.text, "Refund order 42?" in page.text) == (200, True, True)
        assert httpx.get(f"{serving.url}/ui/waiting").status_code == 401
    finally:
        serving.kill()


@pytest.mark.long
def test_commands_list_and_decide(tmp_path: Path) -> None:
    """What waits is listed, a decision resumes the run, and each mistake has its exit code and remedy."""
    serving = Serving(tmp_path, "app.py")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    serving.start()

    approvals = functools.partial(run_command, serving)
    until_asked = functools.partial(run_that_asks, serving)
    try:
        assert approvals("list").stdout == "nothing waits for a decision\n"
        serving.send(0, 1)
        run = until_asked("Refund order 42?")
        assert "Refund order 42?" in approvals("list").stdout
        refused = approvals("link", run)
        assert (refused.returncode, "STEPSTREAM_API_KEY" in refused.stderr) == (1, True)
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
