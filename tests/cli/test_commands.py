"""What the commands print and refuse, over an API in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from stepstream import App, Context, Event, on
from stepstream.cli import cli
from stepstream.testing import VirtualEngine

ODD = "odd[/x]"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A folder with the state of one run that failed at its step, one that completed, and their odd names."""
    app = App("shop")

    def broken() -> None:
        raise ValueError(f"no such order {ODD}\nsecond line")

    @app.function(on("go"), id=ODD, retries=0)
    async def function(ctx: Context) -> list[str]:
        if ctx.event.data.get("fail"):
            await ctx.step.run("charge", broken)
        return [ODD]

    async with VirtualEngine(app, data_dir=tmp_path / "state") as engine:
        await engine.send(Event("go", {"fail": True}, id="bad"), Event("go"))
    return tmp_path / "state"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command in this process, in a wide terminal."""
    runner = CliRunner()
    monkeypatch.setattr("stepstream.cli.out.width", 250)
    monkeypatch.setattr("stepstream.cli.err.width", 250)
    return lambda *arguments: runner.invoke(cli, [str(each) for each in arguments])


Invoke = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("runs", "list", "--status", "nonsense"), "'scheduled', 'running', 'completed', 'failed', 'cancelled'"),
        (("replay", "app.py", "--events", "day.jsonl", "--progress", "nonsense"), "'bar', 'json', 'none'"),
    ],
)
def test_a_choice_that_is_none_is_told_the_choices(invoke: Invoke, arguments: tuple[str, ...], choices: str) -> None:
    """A status or a kind of progress that is not known is a usage error with the list of those that are."""
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert choices in " ".join(done.output.replace("│", " ").split())


def runs_of(invoke: Invoke, state: Path, *options: str) -> list[dict[str, Any]]:
    """Return the runs that `runs list --json` prints."""
    done = invoke("runs", "list", "--data-dir", state, "--json", *options)
    assert done.exit_code == 0, done.output
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return listed


def test_an_error_is_shown_in_lines(invoke: Invoke, state: Path) -> None:
    """`runs show` prints a failed step's type, message and stack on lines of their own, letter by letter."""
    (failed,) = runs_of(invoke, state, "--status", "failed")
    lines = [line.rstrip() for line in invoke("runs", "show", failed["run_id"], "--data-dir", state).stdout.split("\n")]
    assert f"step 'charge' failed: ValueError: no such order {ODD}" in lines
    assert "second line" in lines
    assert "    Traceback (most recent call last):" in lines
    assert any(line.startswith("      File") and line.endswith("in broken") for line in lines)
    assert "{" not in "".join(lines).replace('f"no such order {ODD}', "")


def test_outputs_are_listed_only_when_asked_for(invoke: Invoke, state: Path) -> None:
    """`runs list --json` is small; with --outputs each run comes whole."""
    (listed,) = runs_of(invoke, state, "--status", "completed")
    assert "output" not in listed
    (whole,) = runs_of(invoke, state, "--status", "completed", "--outputs")
    assert whole["output"] == [ODD]
    assert invoke("runs", "list", "--data-dir", state).stdout.count(ODD) == 2
    shown = invoke("runs", "show", listed["run_id"], "--data-dir", state)
    assert f'output: ["{ODD}"]' in shown.stdout
    missing = invoke("runs", "show", ODD, "--data-dir", state)
    assert (missing.exit_code, f"there is no run '{ODD}'" in missing.stderr) == (1, True)


class Answers:
    """What httpx.request is replaced by; it keeps what was asked for."""

    def __init__(self, answer: httpx.Response | Exception) -> None:
        self.answer = answer
        self.urls: list[str] = []

    def __call__(self, method: str, url: str, **options: object) -> httpx.Response:
        """Answer, or raise."""
        self.urls.append(str(httpx.Request(method, url, json=options["json"]).url))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_an_address_may_lack_its_scheme(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--url host:port` is http, and the parts of a path are any text."""
    answers = Answers(httpx.Response(200, json={"ids": ["1"]}))
    monkeypatch.setattr(httpx, "request", answers)
    assert invoke("send", "go", "--url", "127.0.0.1:8288", "--key", "a/b?").output == "1\n"
    assert answers.urls == ["http://127.0.0.1:8288/e/a%2Fb%3F"]


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "http://x:port", ""])
def test_an_address_that_is_none_is_a_usage_error(invoke: Invoke, url: str) -> None:
    """An address that cannot be one is said to be, without a traceback."""
    done = invoke("send", "go", "--url", url)
    assert done.exit_code == 2, done.output
    assert "give it as http://HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(404, text="nothing"),
        httpx.Response(500, json={"detail": "no"}),
        httpx.Response(500, json=["no"]),
        httpx.Response(200, json={"detail": "yes"}),
    ],
    ids=range(5),
)
def test_another_server_is_told_from_ours(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response
) -> None:
    """Something else that listens at the address is said to be no stepstream; the exit code is 3."""
    monkeypatch.setattr(httpx, "request", Answers(answer))
    done = invoke("send", "go")
    assert done.exit_code == 3, done.output
    assert "is no stepstream" in done.stderr
