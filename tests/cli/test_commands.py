"""What the commands print and refuse, with an API in this process."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from stepstream import App, Context, Event, on
from stepstream.cli.main import cli
from stepstream.host.deadletters.topic import Survey
from stepstream.host.folder import locked_folder
from stepstream.testing import VirtualEngine

ODD = "odd[/x]"


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """A folder with the state of a run whose step failed and of a run that completed; both have odd names."""
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
def invoke() -> Callable[..., Result]:
    """Run a command in this process, its output in a pipe."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli, [str(each) for each in arguments])


Invoke = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (
            ("runs", "list", "--status", "nonsense"),
            "'scheduled', 'queued', 'running', 'completed', 'failed', 'cancelled'",
        ),
        (("replay", "app.py", "--events", "day.jsonl", "--progress", "nonsense"), "'bar', 'json', 'none'"),
    ],
)
def test_an_unknown_choice_lists_the_choices(invoke: Invoke, arguments: tuple[str, ...], choices: str) -> None:
    """An unknown status or kind of progress is a usage error with the list of the known ones."""
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert choices in " ".join(done.output.replace("│", " ").split())


def runs_of(invoke: Invoke, state: Path, *options: str) -> list[dict[str, Any]]:
    """Return the runs that `runs list --json` prints."""
    done = invoke("runs", "list", "--data-dir", state, "--json", *options)
    assert done.exit_code == 0, done.output
    listed: list[dict[str, Any]] = json.loads(done.stdout)
    return listed


def test_show_prints_the_event_and_one_traceback(invoke: Invoke, state: Path) -> None:
    """`runs show` prints the event with its data; an error of a step that failed the run has one traceback.

    The traceback has the user's frames only, and brackets are printed as they are.
    """
    (failed,) = runs_of(invoke, state, "--status", "failed")
    lines = [line.rstrip() for line in invoke("runs", "show", failed["run_id"], "--data-dir", state).stdout.split("\n")]
    assert any(line.startswith("  event: go  id bad  at 20") and line.endswith('  {"fail": true}') for line in lines)
    assert f"  error: ValueError: no such order {ODD}" in lines
    assert f"step 'charge' failed: ValueError: no such order {ODD}" in lines
    assert "second line" in lines
    assert lines.count("    Traceback (most recent call last):") == 1
    frames = [line for line in lines if line.startswith("      File")]
    assert frames[-1].endswith("in broken")
    assert not [frame for frame in frames if "stepstream/sdk" in frame]


def test_prune_drops_ended_runs_and_asks_first(invoke: Invoke, state: Path) -> None:
    """Without a confirmation nothing is dropped; with one the runs are gone, and the size is printed."""
    asked = invoke("runs", "prune", "--older-than", "0s", "--data-dir", state)
    assert asked.exit_code == 1
    assert "Drop 2 runs that ended more than 0s ago?" in asked.stdout
    assert len(runs_of(invoke, state)) == 2
    kept = invoke("runs", "prune", "--older-than", "366000d", "--data-dir", state)
    assert kept.stdout.startswith("dropped 0 runs; the list of runs has ")
    done = invoke("runs", "prune", "--older-than", "0s", "--data-dir", state, "--yes", "--json")
    assert json.loads(done.stdout)["dropped"] == 2
    assert runs_of(invoke, state) == []


def test_prune_drops_the_oldest_runs_by_size(invoke: Invoke, state: Path) -> None:
    """A size that the list has drops nothing, and one that it cannot have all ended runs."""
    kept = invoke("runs", "prune", "--max-bytes", "100000000", "--data-dir", state, "--yes", "--json")
    assert json.loads(kept.stdout)["dropped"] == 0
    asked = invoke("runs", "prune", "--max-bytes", "1", "--data-dir", state)
    assert (asked.exit_code, len(runs_of(invoke, state))) == (1, 2)
    assert "Drop the oldest ended runs and log lines until the list has at most 1 bytes?" in asked.stdout
    done = invoke("runs", "prune", "--max-bytes", "1", "--data-dir", state, "--yes", "--json")
    assert (json.loads(done.stdout)["dropped"], runs_of(invoke, state)) == (2, [])
    none = invoke("runs", "prune", "--data-dir", state)
    assert (none.exit_code, "give --older-than" in none.stderr) == (2, True)


def test_prune_refuses_a_folder_in_use(invoke: Invoke, state: Path) -> None:
    """A process that uses the folder prunes by itself."""
    with locked_folder(state):
        done = invoke("runs", "prune", "--older-than", "0s", "--data-dir", state, "--yes")
    assert (done.exit_code, "is in use by another process" in done.stderr) == (2, True)
    wrong = invoke("runs", "prune", "--older-than", "soon", "--data-dir", state)
    assert (wrong.exit_code, "'soon' is not a duration" in wrong.stderr) == (2, True)


def test_a_pipe_neither_wraps_nor_cuts(invoke: Invoke, tmp_path: Path) -> None:
    """Ids and JSON are complete, and a run is one line, however long its names and results are."""

    async def run() -> str:
        app = App("shop")

        @app.function(on("go"), id="f" * 200)
        async def function(ctx: Context) -> None:
            await ctx.step.run("long-result", lambda: "x" * 300)

        async with VirtualEngine(app, data_dir=tmp_path) as engine:
            await engine.send(Event("go"))
            return engine.run().run_id

    run_id = asyncio.run(run())
    listed = invoke("runs", "list", "--data-dir", tmp_path).stdout.splitlines()
    assert any(run_id in line and "f" * 200 in line for line in listed)
    assert '"' + "x" * 300 + '"' in invoke("runs", "show", run_id, "--data-dir", tmp_path).stdout


def test_outputs_are_listed_only_on_request(invoke: Invoke, state: Path) -> None:
    """`runs list --json` is small; with --outputs each run has all details."""
    (listed,) = runs_of(invoke, state, "--status", "completed")
    assert "output" not in listed
    (full,) = runs_of(invoke, state, "--status", "completed", "--outputs")
    assert full["output"] == [ODD]
    assert invoke("runs", "list", "--data-dir", state).stdout.count(ODD) == 2
    shown = invoke("runs", "show", listed["run_id"], "--data-dir", state)
    assert f'output: ["{ODD}"]' in shown.stdout
    missing = invoke("runs", "show", ODD, "--data-dir", state)
    assert (missing.exit_code, f"there is no run '{ODD}'" in missing.stderr) == (1, True)


def test_timings_are_named_as_by_the_page_and_the_api(invoke: Invoke, answering: "Answering") -> None:
    """The columns are p50 and p95, and the help explains them."""
    timing = {"step": "charge", "function": "f", "ended": 4, "failed": 1, "run_id": "0" * 26}
    answering(200, {"timings": [{**timing, "p50_ms": 1_000, "p95_ms": 2_000, "slowest_ms": 3_000}]})
    printed = [re.findall(r"[^│┃]+", line) for line in invoke("timings").stdout.splitlines()]
    cells = [[cell.strip() for cell in line] for line in printed if len(line) > 1]
    assert [line[4:7] for line in cells] == [["p50", "p95", "slowest"], ["1.0 s", "2.0 s", "3.0 s"]]
    explained = " ".join(invoke("timings", "--help").stdout.split())
    assert "Half of them take at most p50, and 95 % at most p95" in explained


class Answers:
    """Replaces the exchange with the server, and records the requests."""

    def __init__(self, status: int, answer: object) -> None:
        self.status = status
        self.answer = answer
        self.urls: list[str] = []
        self.keys: list[str] = []
        self.bodies: list[bytes] = []

    def __call__(self, _method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> tuple[int, bytes]:
        """Record the request, and answer."""
        self.urls.append(url)
        self.keys.append(headers.get("Authorization", ""))
        self.bodies.append(data or b"")
        return self.status, self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, object], Answers]:
    """Let the engine give one answer to every request."""

    def answering(status: int, answer: object) -> Answers:
        answers = Answers(status, answer)
        monkeypatch.setattr("stepstream.cli.client._exchange", answers)
        return answers

    return answering


Answering = Callable[[int, object], Answers]


def test_an_address_may_omit_its_scheme(invoke: Invoke, answering: Answering) -> None:
    """`--url host:port` means http, and the segments of a path may be any text."""
    answers = answering(200, {"ids": ["1"]})
    assert invoke("send", "go", "--url", "127.0.0.1:8288", "--key", "a/b?").output == "1\n"
    assert answers.urls == ["http://127.0.0.1:8288/e/a%2Fb%3F"]


def test_apps_of_a_gateway_are_listed_with_their_problems(invoke: Invoke, answering: Answering) -> None:
    """One that never registered has no SDK; a time is shown for a problem only."""
    shop = {"app": "shop", "url": "http://shop/x", "sdk": "js:v4.24.0", "functions": 3, "error": "", "failed_at": None}
    new = {**shop, "app": "new", "sdk": "", "functions": 0, "error": "it is wrong", "failed_at": "2026-11-18T11:06:40Z"}
    answers = answering(200, {"apps": [shop, new]})
    lines = invoke("gateway", "apps", "--url", "http://gateway:8288").stdout.splitlines()
    cells = [[cell.strip() for cell in line[1:-1].split("│")] for line in lines if line.startswith("│")]
    assert cells == [
        ["shop", "http://shop/x", "js:v4.24.0", "3", "", ""],
        ["new", "http://shop/x", "", "0", "it is wrong", "2026-11-18T11:06:40Z"],
    ]
    assert json.loads(invoke("gateway", "apps", "--json").stdout) == [shop, new]
    assert answers.urls[0] == "http://gateway:8288/v1/apps"


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "http://x:port", ""])
def test_an_invalid_address_is_a_usage_error(invoke: Invoke, url: str) -> None:
    """The error names the option and its variable, without a traceback."""
    done = invoke("send", "go", "--url", url)
    assert done.exit_code == 2, done.output
    assert "give --url or STEPSTREAM_URL as http://HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>"),
        (307, b""),
        (404, b"nothing"),
        (500, {"detail": "no"}),
        (500, ["no"]),
        (200, {"detail": "yes"}),
        (200, 5),
    ],
)
def test_another_server_is_recognized(invoke: Invoke, answering: Answering, status: int, answer: object) -> None:
    """The error says that the server is not stepstream; the exit code is 3."""
    answering(status, answer)
    done = invoke("send", "go")
    assert done.exit_code == 3, done.output
    assert "is not stepstream; check --url or STEPSTREAM_URL" in done.stderr


COMMANDS = [
    (("send", "go"), {"ids": ["1"]}),
    (("signal", "go"), {"delivered": True}),
    (("runs", "list"), {"runs": []}),
    (("runs", "show", "0" * 26), {"run_id": "0" * 26}),
    (("runs", "cancel", "0" * 26), {"cancelled": True}),
    (("runs", "rerun", "0" * 26), {"run_id": "0" * 26}),
]


@pytest.mark.parametrize(("arguments", "answer"), COMMANDS, ids=range(len(COMMANDS)))
def test_the_api_key_is_sent_and_never_printed(
    invoke: Invoke,
    answering: Answering,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    answer: dict[str, object],
) -> None:
    """Each command but `send` sends the key of the environment or of --api-key; `send` sends the event key."""
    answers = answering(200, answer)
    monkeypatch.setenv("STEPSTREAM_API_KEY", "secret-1")
    monkeypatch.setenv("STEPSTREAM_EVENT_KEY", "secret-2")
    is_send = arguments[0] == "send"
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert answers.keys == ["" if is_send else "Bearer secret-1"]
    assert answers.urls[0].endswith("/e/secret-2") == is_send
    answering(401, {"error": {"message": "no"}})
    refused = invoke(*arguments)
    assert refused.exit_code == 1
    assert ("STEPSTREAM_EVENT_KEY" if is_send else "--api-key or STEPSTREAM_API_KEY") in refused.stderr
    assert "secret" not in done.output + refused.output + invoke(*arguments, "--help").output


@pytest.mark.parametrize("key", ["two\nlines", "with space", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_not_printed(invoke: Invoke, key: str) -> None:
    """It is a usage error that does not show the key."""
    done = invoke("runs", "list", "--api-key", key)
    assert done.exit_code == 2
    assert "ASCII" in done.stderr
    assert key not in done.output


def test_a_run_is_found_by_the_end_of_its_id(invoke: Invoke, state: Path) -> None:
    """The end that `dev` prints is enough; too few characters, or an end that no run has, find nothing."""
    (failed,) = runs_of(invoke, state, "--status", "failed")
    for text in (failed["run_id"][-6:], failed["run_id"][-9:].lower()):
        shown = invoke("runs", "show", text, "--data-dir", state, "--json")
        assert json.loads(shown.stdout)["run_id"] == failed["run_id"]
    for text in (failed["run_id"][-5:], "ZZZZZZ"):
        assert "there is no run" in invoke("runs", "show", text, "--data-dir", state).stderr


def test_children_are_cancelled_with_a_run_and_not_with_a_filter(invoke: Invoke, answering: Answering) -> None:
    """The option is passed on with a run id, and refused without one."""
    answers = answering(200, {"cancelled": True})
    assert invoke("runs", "cancel", "0" * 26, "--children").exit_code == 0
    assert "children=true" in answers.urls[-1]
    assert invoke("runs", "cancel", "0" * 26).exit_code == 0
    assert "children" not in answers.urls[-1]
    refused = invoke("runs", "cancel", "--filter", "app:shop", "--children")
    assert (refused.exit_code, "give a run id with --children" in refused.stderr) == (2, True)


def test_a_signal_may_start_a_run(invoke: Invoke, answering: Answering) -> None:
    """The function and the data of its event are passed on, and the command prints which run has the signal."""
    answers = answering(200, {"delivered": False, "started": True, "run_id": "0" * 26})
    done = invoke("signal", "cart/7", "--start", "fill-cart", "--start-data", '{"cart": 7}')
    assert done.output == f"started {'0' * 26}\n"
    start = {"function": "fill-cart", "data": {"cart": 7}}
    assert json.loads(answers.bodies[-1]) == {"signal": "cart/7", "data": None, "start": start}
    wrong = invoke("signal", "cart/7", "--start", "fill-cart", "--start-data", "{")
    assert (wrong.exit_code, "--start-data" in wrong.stderr) == (2, True)


def test_an_ambiguous_end_of_an_id_is_refused(invoke: Invoke, answering: Answering) -> None:
    """If several runs end with the text, the error asks for more of the id."""
    answers = answering(200, {"runs": [{"run_id": "1"}, {"run_id": "2"}]})
    done = invoke("runs", "cancel", "abcdef")
    assert (done.exit_code, "several runs end with 'abcdef'" in done.stderr) == (2, True)
    assert len(answers.urls) == 1


def test_an_unknown_function_suggests_similar_names(invoke: Invoke, state: Path) -> None:
    """A name without runs gets a hint; a name that has runs of another status does not."""
    unknown = invoke("runs", "list", "--function", "odd/x", "--data-dir", state)
    assert unknown.exit_code == 0
    assert f"no run of a function 'odd/x'; did you mean '{ODD}'?" in unknown.stderr
    assert "there are runs of" in invoke("runs", "list", "--function", "zebra", "--data-dir", state).stderr
    assert not invoke("runs", "list", "--function", ODD, "--status", "running", "--data-dir", state).stderr


DEAD_LETTER = {"topic": "t", "partition": 0, "offset": 1, "place": "0-1", "at": "", "bytes": 1, "reason": "r"}


@pytest.mark.parametrize(("times", "words"), [(1, "redriven 1 time before"), (2, "redriven 2 times before")])
def test_counts_are_singular_for_one(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, times: int, words: str) -> None:
    """In the list of dead letters, and in the question before they are redriven."""

    async def survey(*_: object) -> Survey:
        return Survey([{**DEAD_LETTER, "sent": False, "redriven": times}], 1, {"0-1": None})

    monkeypatch.setattr("stepstream.cli.dead_letters.survey", survey)
    assert words in invoke("dead-letters", "list").stdout
    assert "Redrive 1 record?" in invoke("dead-letters", "redrive", "--all").output


ATTACK = "a\x1b[2Jb\x9bc\r\nd\u2028e\u202ef"


def test_no_value_controls_the_terminal(
    invoke: Invoke, answering: Answering, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Control characters from events, errors, ids and servers are escaped in every line that a command prints."""

    async def run() -> str:
        app = App("shop")

        @app.function(on("go"), id="f", retries=0)
        async def function(ctx: Context) -> None:
            await ctx.step.run("charge", fail)

        def fail() -> None:
            raise ValueError(ATTACK)

        async with VirtualEngine(app, data_dir=tmp_path) as engine:
            await engine.send(Event("go", {"text": ATTACK}))
            return engine.run().run_id

    async def survey(*_: object) -> Survey:
        return Survey([{**DEAD_LETTER, "reason": ATTACK, "sent": False, "redriven": 0}], 1, {"0-1": None})

    run_id = asyncio.run(run())
    monkeypatch.setattr("stepstream.cli.dead_letters.survey", survey)
    answering(400, {"error": {"message": ATTACK}})
    for done in (
        invoke("runs", "list", "--data-dir", tmp_path),
        invoke("runs", "show", run_id, "--data-dir", tmp_path),
        invoke("runs", "show", run_id, "--data-dir", tmp_path, "--json"),
        invoke("runs", "list", "--data-dir", tmp_path, "--function", ATTACK),
        invoke("dead-letters", "list"),
        invoke("send", "go"),
    ):
        assert done.output.replace("\n", "").isprintable(), done.output
