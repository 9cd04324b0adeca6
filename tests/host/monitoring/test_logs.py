"""Lines of the log: a JSON object with fields to search by, or text that ends with the same fields."""

import errno
import json
import logging
import os
import re
import sys

import pytest

from stepstream import App, Context, Event, __version__, on
from stepstream.host.monitoring.logs import Format, JsonLines, Level, Logs, TextLines
from stepstream.host.monitoring.versions import app_version, build_info, code_versions
from stepstream.host.settings import Settings
from stepstream.runtime.registrations import release_of
from stepstream.testing import VirtualEngine


def logging_app() -> App:
    """Return an app whose function logs outside of steps and inside one."""
    app = App("shop")

    @app.function(on("go"), retries=0)
    async def work(ctx: Context) -> None:
        def charge() -> None:
            ctx.logger.info("charging %d", 5, extra={"order": 7, "time": "noon"})

        ctx.logger.info("starting")
        await ctx.step.run("charge", charge)

        def fail() -> None:
            raise ValueError("no money")

        await ctx.step.run("fail", fail)

    return app


async def lines_of(app: App, form: Format, capsys: pytest.CaptureFixture[str], version: str = "") -> list[str]:
    """Run the app once and return what was logged."""
    logs = Logs(form, Level.INFO)
    settings = Settings(version=version)
    logs.know(app.name, app_version(app, settings), code_versions(app, settings))
    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status != "running"
    return [line for line in capsys.readouterr().err.splitlines() if "asyncio" not in line]


async def test_json_has_run_function_step_app_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of the user's code and those of the worker about its steps have the same fields."""
    lines = [json.loads(line) for line in await lines_of(logging_app(), Format.JSON, capsys, "v2")]
    starting, charging, ran, failed, ended = [line for line in lines if "function" in line]
    run_id = starting["run_id"]
    assert all(
        (line["run_id"], line["function"]) == (run_id, "work") for line in (starting, charging, ran, failed, ended)
    )
    assert all((line["app"], line["code_version"]) == ("shop", "v2") for line in (starting, charging, ran, failed))
    assert {(line["app"], line["app_version"]) for line in lines} == {("shop", "v2")}
    assert starting["message"] == "starting"
    assert "step" not in starting
    assert (charging["message"], charging["step"], charging["order"]) == ("charging 5", "charge", 7)
    assert charging["time_"] == "noon"
    assert charging["time"].endswith("Z")
    assert (ran["logger"], ran["step"]) == ("stepstream.step", "charge")
    assert ran["message"].startswith("step charge ran in ")
    assert re.fullmatch(
        r"step fail failed permanently: ValueError: no money \(test_logs\.py:\d+\)", str(failed["message"])
    )
    assert (failed["level"], ended["level"], ended["logger"]) == ("warning", "error", "stepstream.code")
    assert str(ended["message"]).startswith("run failed permanently: ValueError: no money (test_logs.py:")
    assert "step" not in ended


async def test_code_that_fails_between_steps_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Each failed attempt is a line with its place and the time of the next, even if steps are not logged."""
    app = App("shop")

    @app.function(on("go"), retries=1, backoff="30s")
    async def work(ctx: Context) -> None:
        await ctx.step.run("fine", int)
        json.loads("[")

    Logs(Format.JSON, Level.WARNING)
    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    place = rf"JSONDecodeError: .* \(test_logs\.py:{work.handler.__code__.co_firstlineno + 3}\)"
    first, last = lines
    assert re.fullmatch(f"code between steps failed, retrying in 30 s: {place}", first["message"])
    assert re.fullmatch(f"run failed permanently: {place}", last["message"])
    assert [(line["level"], line["attempt"]) for line in lines] == [("warning", 0), ("error", 1)]
    assert {(line["run_id"], line["function"]) for line in lines} == {(run.run_id, "work")}


async def test_the_shard_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of a shard carry its number."""
    lines = [json.loads(line) for line in await lines_of(logging_app(), Format.JSON, capsys)]
    assert {line["shard"] for line in lines if line["logger"] == "stepstream.runtime.shard.loop"} == {0}


async def test_text_ends_with_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A line of text has the message, then the fields; `app_version` is the one of the metrics."""
    app = logging_app()
    version, whole = code_versions(app, Settings())["work"], app_version(app, Settings())
    assert [labels for _, labels, _ in build_info(app, Settings())] == [(__version__, "shop", whole)]
    lines = await lines_of(app, Format.TEXT, capsys)
    (line,) = [line for line in lines if "charging" in line]
    run_id = line.partition("run_id=")[2].partition(" ")[0]
    own = f"app=shop app_version={whole} code_version={version}"
    assert line.endswith(f"charging 5 [run_id={run_id} function=work step=charge {own} order=7 time=noon]")
    (ran,) = [line for line in lines if "step charge ran in" in line]
    assert ran.endswith(f"[run_id={run_id} function=work step=charge attempt=0 {own}]")


async def test_text_and_json_have_the_same_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Both forms have the same fields; JSON renames a field whose name it uses itself."""
    text = await lines_of(logging_app(), Format.TEXT, capsys)
    as_json = [json.loads(line) for line in await lines_of(logging_app(), Format.JSON, capsys)]
    found = [set(re.findall(r"(\w+)=", line.rpartition(" [")[2])) for line in text]
    expected = [
        {name.rstrip("_") for name in line if name not in ("time", "level", "logger", "message")} for line in as_json
    ]
    assert found == expected


def test_what_clients_of_kafka_leave_behind_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """They leave connections at every healthy start, and tasks in an outage; other errors of the loop are logged."""
    Logs(Format.TEXT, Level.INFO)
    lost, other = (
        "Task was destroyed but it is pending!\ntask: <Task coro=<f() at ",
        "Task exception was never retrieved",
    )
    connection, kafka = "Unclosed AIOKafkaConnection\nconn: <AIOKafkaConnection>", "/aiokafka/producer/sender.py:99>>"
    for message in (connection, f"{lost}{kafka}", f"{lost}/shop.py:1>>", other):
        logging.getLogger("asyncio").error(message)
    assert ["/shop.py" in line or other in line for line in capsys.readouterr().err.splitlines()] == [True, True]


def test_connections_without_a_file_are_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    """The event loop logs each of thousands of attempts per second, with a traceback."""
    Logs(Format.TEXT, Level.INFO)
    for number in (errno.EMFILE, errno.EMFILE, errno.ECONNABORTED):
        try:
            raise OSError(number, os.strerror(number))
        except OSError:
            logging.getLogger("asyncio").exception("socket.accept() out of system resource")
    first, second, *traceback = [line.partition(" ERROR asyncio: ")[2] for line in capsys.readouterr().err.splitlines()]
    assert first == "no connection can be accepted (Too many open files); raise the limit of open files (`ulimit -n`)"
    assert second == "socket.accept() out of system resource"
    assert traceback


def test_a_field_is_one_word() -> None:
    """Values with spaces, quotes or line feeds are quoted, so that a record is one line with fields to find."""
    odd = {"a": "two words", "b": 'a "quote"', "c": "a\nb", "d": "", "e": [1, 2], "f": "plain", "g": "é"}
    text = TextLines().format(logging.makeLogRecord({"msg": "odd", **odd}))
    tail = r'[a="two words" b="a \"quote\"" c="a\nb" d="" e="[1, 2]" f=plain g=é]'
    assert text.endswith(f"odd {tail}")


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_an_error_keeps_its_traceback(lines: logging.Formatter) -> None:
    """The traceback of an exception follows its line, indented; in JSON it is part of the one line."""
    try:
        raise KeyError("gone")
    except KeyError:
        record = logging.LogRecord("a", logging.ERROR, "f.py", 1, "it broke", None, sys.exc_info())
    text = lines.format(record)
    assert "it broke" in text
    assert "KeyError: 'gone'" in text
    if isinstance(lines, JsonLines):
        assert "\n" not in text
        assert json.loads(text)["error"].startswith("Traceback")
    else:
        assert all(line.startswith("  ") for line in text.splitlines()[1:])


def test_any_value_becomes_one_line_of_json() -> None:
    """Objects, keys that are not text, lone surrogates and line feeds are shown in some way, on one line."""
    lines = JsonLines()
    odd = {"thing": object(), "pairs": {(1, 2): 3}, "half": "\ud800", "broken": "a\nb"}
    for extra in (odd, {"thing": object(), "broken": "a\nb"}):
        record = logging.makeLogRecord({"msg": "odd %s", "args": ("\ud800" if extra is odd else "",), **extra})
        text = lines.format(record)
        assert "\n" not in text
        assert json.loads(text)["broken"] == "a\nb"
        assert "object object" in json.loads(text)["thing"]


def test_versions_distinguish_code() -> None:
    """Without a version in the settings, changed code has another version, and the same code the same one."""

    def app_with(total: int) -> App:
        app = App("shop")

        @app.function(on("go"), id="work")
        async def work(ctx: Context) -> int:
            return 1

        @app.function(on("go"), id="other")
        async def other(ctx: Context) -> int:
            return 2

        async def changed(ctx: Context) -> int:
            return 3

        if total == 3:
            other.handler = changed
        return app

    first, again, changed = (app_with(total) for total in (2, 2, 3))
    assert app_version(first, Settings()) == release_of(first)
    assert app_version(first, Settings()) == app_version(again, Settings()) != app_version(changed, Settings())
    assert code_versions(first, Settings())["work"] == code_versions(changed, Settings())["work"]
    assert code_versions(first, Settings())["other"] != code_versions(changed, Settings())["other"]
    assert set(code_versions(changed, Settings(version="v7")).values()) == {app_version(first, Settings(version="v7"))}


ATTACK = "a\x1b[2Jb\x9bc\r\nd\u2028e\u202ef\x7fg\U000e0041h"


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()])
def test_no_text_can_forge_a_line_or_control_the_terminal(lines: logging.Formatter) -> None:
    """Messages, fields and errors with control characters stay one line each, with the characters escaped."""
    try:
        raise ValueError(f"{ATTACK}\n2026-01-01T00:00:00.000Z ERROR forged: line")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f.py", 1, "sent %s", (ATTACK,), sys.exc_info())
    record.__dict__["order"] = ATTACK
    text = lines.format(record)
    assert text.replace("\n", "").isprintable()
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())
    if isinstance(lines, JsonLines):
        assert (json.loads(text)["message"], json.loads(text)["order"]) == (f"sent {ATTACK}", ATTACK)
    else:
        assert r"sent a\u001b[2Jb\u009bc\r\nd\u2028e\u202ef\u007fg\udb40\udc41h" in text.splitlines()[0]
