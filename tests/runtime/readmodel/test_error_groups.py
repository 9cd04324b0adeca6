"""Errors are grouped by function, step and message without the values in it."""

import itertools
from contextlib import suppress

import httpx
import pytest

from stepstream import App, Context, Event, NonRetriableError, StepError, on
from stepstream.api.http import make_api
from stepstream.cli.terminal.console import Screen
from stepstream.cli.terminal.tables import print_errors
from stepstream.contract.history import HistoryEntry, RunBegan, StepAttemptFailed
from stepstream.contract.outcomes import ErrorInfo
from stepstream.runtime.readmodel.folding import write_entries
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables import error_groups
from stepstream.runtime.readmodel.tables.error_groups import normalised
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of

app = App("shop")


def charge(order: int) -> None:
    """Fail with a message that contains the order."""
    raise ValueError(f"order {order} of 'customer-{order}' was refused")


@app.function(on("order"), retries=1, backoff="1s")
async def fulfil(ctx: Context) -> None:
    """Fail in a step, or between the steps."""
    number = ctx.event.data["n"]
    if number < 0:
        raise NonRetriableError(f"no order {number}")
    if number == 0:
        with suppress(StepError):
            await ctx.step.run("charge", charge, number)
        return
    await ctx.step.run("charge", charge, number)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("order 4711 refused", "order # refused"),
        ("no such file '/tmp/x1' in \"a b\"", "no such file '…' in '…'"),
        ("run 01KDVDNA00ZP0GFMQQFK8ZDFSF timed out after 2.5 s", "run … timed out after # s"),
        ("a7f3c2de-0b1c-4c7e-9d2a-112233445566 and 0xdeadbeef", "… and …"),
        ("connect to 10.0.0.1:8080 refused", "connect to # refused"),
        ("internationalization-failed", "internationalization-failed"),
        ("first\nsecond 1", "first"),
        ("x" * 10_000, "x" * 300),
        ("", ""),
    ],
)
def test_a_message_is_normalised(message: str, expected: str) -> None:
    """Numbers, ids, hexadecimal and quoted texts are replaced; words stay."""
    assert normalised(message) == expected


async def test_groups_of_failed_runs_are_first() -> None:
    """Before those of more attempts that were all repaired by a later one."""
    shop = App("shop")

    @shop.function(on("order"))
    async def fulfil(ctx: Context) -> None:
        """Succeed at the third attempt."""
        await ctx.step.run("charge", refuse_twice)

    @shop.function(on("order"), retries=0)
    async def count(ctx: Context) -> None:
        """Fail."""
        raise LookupError("no shelf")

    attempts = itertools.count(1)

    def refuse_twice() -> None:
        if next(attempts) < 3:
            raise ValueError("refused")

    async with VirtualEngine(shop) as engine:
        await engine.send(Event("order"))
        await engine.advance("1h")
        groups = await engine.index.queries.error_groups()
        assert [(group.function, group.failures, group.runs) for group in groups] == [("count", 1, 1), ("fulfil", 2, 0)]


async def test_failures_are_grouped() -> None:
    """Attempts count as failures; a run that ends with the error of a step counts once, as a run."""
    async with VirtualEngine(app) as engine:
        await engine.send(*(Event("order", {"n": number}) for number in (-7, 0, 12, 13)))
        await engine.advance("1m")
        queries = engine.index.queries
        groups = {group.step: group for group in await queries.error_groups("fulfil")}
        step, code = groups["charge"], groups[""]
        assert (step.name, step.message) == ("ValueError", "order # of '…' was refused")
        assert (step.failures, step.runs, len(step.samples)) == (6, 2, 3)
        assert (code.name, code.failures, code.runs) == ("NonRetriableError", 1, 1)
        assert step.first_at < step.last_at
        found = await queries.search(Filter.parse(f"error_group:{step.id}"))
        assert {run.run_id for run in found.runs} == {run.run_id for run in engine.runs(status="failed")} - {
            code.samples[0]
        }
        assert {run.error_group for run in found.runs} == {step.id}
        assert await queries.error_groups("other") == []
        assert await queries.error_groups(since=step.last_at + 1) == []


async def test_a_group_has_the_message_and_the_run_of_its_latest_failure() -> None:
    """As it was, with its numbers and its first 500 characters; an older one that is folded later changes nothing."""

    def failed(run_id: str, seq: int, at: int, message: str) -> StepAttemptFailed:
        return StepAttemptFailed(run_id, seq, at, "s", "pay", 0, ErrorInfo("ValueError", message), at + 1)

    runs = [RunBegan(each, 1, 1_000, "fulfil", "shop", 1_000, ()) for each in ("r1", "r2", "r3")]
    entries = [failed("r1", 2, 5_000, f" order 1 refused\n{'x' * 600}"), failed("r2", 2, 4_000, "order 2 refused")]
    for size in (1, 10):
        index = RunIndex()
        known: list[HistoryEntry] = [*runs, *entries]
        for start in range(0, len(known), size):
            write_entries(index._db, known[start : start + size])
        (group,) = await index.queries.error_groups()
        assert (group.message, group.latest_run) == ("order # refused", "r1")
        assert group.latest_message == f"order 1 refused\n{'x' * 484}"
        write_entries(index._db, [failed("r3", 2, 6_000, "order 3 refused")])
        (group,) = await index.queries.error_groups()
        assert (group.latest_message, group.latest_run, group.failures) == ("order 3 refused", "r3", 3)
        index.close()


async def test_the_number_of_groups_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of which every one is new do not fill the table: the groups seen last stay."""
    monkeypatch.setattr(error_groups, "GROUPS_MAX", 3)
    monkeypatch.setattr(error_groups, "normalised", lambda message: message)
    async with VirtualEngine(app) as engine:
        for number in range(1, 7):
            await engine.send(Event("order", {"n": number}))
            await engine.advance("1m")
        groups = await engine.index.queries.error_groups()
        assert sorted(group.message.split()[1] for group in groups) == ["4", "5", "6"]


async def test_groups_and_counts_are_answered_by_the_api() -> None:
    """A group has its samples; a time that cannot be parsed is refused."""
    async with VirtualEngine(app) as engine:
        await engine.send(Event("order", {"n": 5}), Event("order", {"n": 6}))
        await engine.advance("1m")
        api = make_api(facade_of(engine.engine), engine.index, lambda: b"", now_ms=lambda: engine.now_ms)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://localhost") as client:
            (group,) = (await client.get("/v1/errors", params={"function": "fulfil"})).json()["errors"]
            assert (group["failures"], group["runs"], len(group["samples"])) == (4, 2, 2)
            assert group["latest_message"] in {f"order {n} of 'customer-{n}' was refused" for n in (5, 6)}
            assert group["latest_run"] in group["samples"]
            assert (await client.get("/v1/errors", params={"since": "-1h"})).json()["errors"] == [group]
            assert (await client.get("/v1/errors", params={"since": "-0s"})).json() == {"errors": []}
            wrong = await client.get("/v1/errors", params={"since": "yesterday"})
            assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "since")
            assert (await client.get("/v1/counts")).json() == {"functions": {"fulfil": {"failed": 2}}}


def test_groups_are_printed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """With the id that the filter takes."""
    group = {
        "id": "3f2a91c04b7d",
        "function": "fulfil",
        "step": "charge",
        "name": "ValueError",
        "message": "order # refused",
        "latest_message": "order 12 refused",
        "latest_run": "01KDVDNA00ZP0GFMQQFK8ZDFSF",
        "failures": 4,
        "runs": 2,
        "last_at": 1,
        "samples": ["01KDVDNA00ZP0GFMQQFK8ZDFSF"],
    }
    print_errors(Screen(), [group])
    printed = capsys.readouterr().out
    assert "3f2a91c04b7d" in printed
    assert "ValueError: order # refused" in printed
    assert "order 12 refused" in printed
    assert "FK8ZDFSF" in printed
