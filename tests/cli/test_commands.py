"""What the commands print and refuse, over an API in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from stepstream import App, Context, Event, on
from stepstream.cli.main import cli
from stepstream.host.deadletters.store import Survey
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
    monkeypatch.setattr("stepstream.cli.main.out.width", 250)
    monkeypatch.setattr("stepstream.cli.main.err.width", 250)
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
        self.keys: list[str] = []

    def __call__(self, method: str, url: str, *, headers: dict[str, str], **options: object) -> httpx.Response:
        """Answer, or raise."""
        request = httpx.Request(method, url, json=options.get("json"), headers=headers)
        self.urls.append(str(request.url))
        self.keys.append(request.headers.get("authorization", ""))
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


COMMANDS = [
    (("send", "go"), {"ids": ["1"]}),
    (("signal", "go"), {"delivered": True}),
    (("runs", "list"), {"runs": []}),
    (("runs", "show", "0" * 26), {"run_id": "0" * 26}),
    (("runs", "cancel", "0" * 26), {"cancelled": True}),
]


@pytest.mark.parametrize(("arguments", "answer"), COMMANDS, ids=range(5))
def test_the_api_key_goes_along_and_is_never_printed(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], answer: dict[str, object]
) -> None:
    """Each command but `send` sends the key of its environment or of --api-key; `send` has the event key."""
    answers = Answers(httpx.Response(200, json=answer))
    monkeypatch.setattr(httpx, "request", answers)
    monkeypatch.setenv("STEPSTREAM_API_KEY", "secret-1")
    monkeypatch.setenv("STEPSTREAM_EVENT_KEY", "secret-2")
    is_send = arguments[0] == "send"
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert answers.keys == ["" if is_send else "Bearer secret-1"]
    assert answers.urls[0].endswith("/e/secret-2") == is_send
    answers.answer = httpx.Response(401, json={"error": {"message": "no"}})
    refused = invoke(*arguments)
    assert refused.exit_code == 1
    assert ("STEPSTREAM_EVENT_KEY" if is_send else "--api-key or STEPSTREAM_API_KEY") in refused.stderr
    assert "secret" not in done.output + refused.output + invoke(*arguments, "--help").output


@pytest.mark.parametrize("key", ["two\nlines", "with space", "schlüssel"])
def test_a_key_that_no_header_can_have_is_refused_unprinted(invoke: Invoke, key: str) -> None:
    """A key with a line end is a usage error, and is not shown."""
    done = invoke("runs", "list", "--api-key", key)
    assert done.exit_code == 2
    assert "ASCII" in done.stderr
    assert key not in done.output


@pytest.mark.parametrize(
    ("error", "words", "unsure"),
    [
        (httpx.ConnectError("refused"), "(refused); start `stepstream dev FILE`", False),
        (httpx.ConnectTimeout("timed out"), "nobody took the connection", False),
        (httpx.ReadTimeout("timed out"), "(timed out after 30 s), though something listens there", True),
        (httpx.RemoteProtocolError("gone"), "the connection broke", True),
    ],
)
def test_silence_is_told_from_nobody(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str, unsure: bool
) -> None:
    """A time-out does not ask to start what is there; of what may have been taken it is said how to repeat it."""
    monkeypatch.setattr(httpx, "request", Answers(error))
    for arguments, taken in (
        (("send", "go"), "The event may be taken; with an --id a repeat would do no harm"),
        (("send", "go", "--id", "7"), "its --id starts each function once, so repeat it"),
        (("signal", "go"), "The signal may be delivered"),
        (("runs", "cancel", "0" * 26), "The run may be cancelled"),
        (("runs", "list"), ""),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 3
        assert words in done.stderr
        assert ("start `stepstream dev" in done.stderr) == isinstance(error, httpx.ConnectError)
        assert not taken or (taken in done.stderr) == unsure


def test_a_run_is_found_by_the_end_of_its_id(invoke: Invoke, state: Path) -> None:
    """What `dev` prints of a run is enough to show it; too little, or what no run has, finds none."""
    (failed,) = runs_of(invoke, state, "--status", "failed")
    for text in (failed["run_id"][-6:], failed["run_id"][-9:].lower()):
        shown = invoke("runs", "show", text, "--data-dir", state, "--json")
        assert json.loads(shown.stdout)["run_id"] == failed["run_id"]
    for text in (failed["run_id"][-5:], "ZZZZZZ"):
        assert "there is no run" in invoke("runs", "show", text, "--data-dir", state).stderr


def test_a_tail_of_two_runs_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more than one run ends so, more of the id is asked for."""
    answers = Answers(httpx.Response(200, json={"runs": [{"run_id": "1"}, {"run_id": "2"}]}))
    monkeypatch.setattr(httpx, "request", answers)
    done = invoke("runs", "cancel", "abcdef")
    assert (done.exit_code, "more than one run ends with 'abcdef'" in done.stderr) == (2, True)
    assert len(answers.urls) == 1


def test_a_function_without_runs_has_its_neighbours_named(invoke: Invoke, state: Path) -> None:
    """A name that no run has is told with those that are near; one that has runs of another status is not."""
    told = invoke("runs", "list", "--function", "odd/x", "--data-dir", state)
    assert told.exit_code == 0
    assert f"no run of a function 'odd/x'; did you mean '{ODD}'?" in told.stderr
    assert "there are runs of" in invoke("runs", "list", "--function", "zebra", "--data-dir", state).stderr
    assert not invoke("runs", "list", "--function", ODD, "--status", "running", "--data-dir", state).stderr


@pytest.mark.parametrize(("times", "words"), [(1, "sent again 1 time before"), (2, "sent again 2 times before")])
def test_one_is_no_plural(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, times: int, words: str) -> None:
    """What was sent again once is told so, in the list of dead letters and where it is asked whether to send it."""
    letter = {"topic": "t", "partition": 0, "offset": 1, "place": "0-1", "at": "", "bytes": 1, "reason": "r", "sent": 0}

    async def survey(*_: object) -> Survey:
        return Survey([letter | {"redriven": times}], 1, {"0-1": None})

    monkeypatch.setattr("stepstream.cli.dead_letters.survey", survey)
    assert words in invoke("dead-letters", "list").stdout
    assert "Send 1 record again?" in invoke("dead-letters", "redrive", "--all").output
