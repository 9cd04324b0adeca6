"""The client of other programs, over the real HTTP server of an engine in memory."""

import asyncio
import dataclasses
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stepstream import Client, EngineUnreachable, Event, NoReply, RequestRefused, Run, RunFailed, RunNotEnded
from stepstream.client.results import FunctionInfo, RunAttempt, RunLimitDecision, RunPassedLimit, RunReason, RunStep
from stepstream.contract.errors import InvalidInput
from stepstream.runtime.readmodel.failed_attempts import FailedAttempt
from stepstream.runtime.readmodel.passed_limits import LimitDecision, PassedLimit
from stepstream.testing import VirtualEngine
from tests.client.cut_proxy import CutProxy, cut_proxy
from tests.client.serving import Pauses, engine_served
from tests.client.shop import Receipt, add_up, app, approve, charge
from tests.docs.pages import DOCS, write_files

OPTIONS: dict[str, Any] = {"api_key": "api-key\n", "event_key": "event-key"}
pytestmark = pytest.mark.slow


@asynccontextmanager
async def client_of_engine() -> AsyncIterator[tuple[Client, VirtualEngine]]:
    """Open a client of an engine in memory."""
    async with engine_served(app) as (engine, url), Client(url, **OPTIONS, pause=Pauses()) as client:
        yield client, engine


@asynccontextmanager
async def cut_client() -> AsyncIterator[tuple[Client, VirtualEngine, CutProxy]]:
    """Open a client whose connections to an engine a proxy cuts."""
    async with (
        engine_served(app) as (engine, url),
        cut_proxy(url) as proxy,
        Client(proxy.url, **OPTIONS, pause=Pauses()) as client,
    ):
        yield client, engine, proxy


async def test_send_returns_ids_and_is_idempotent_by_id() -> None:
    """One event by its name, or several; the same id starts each function once."""
    async with client_of_engine() as (client, engine):
        assert await client.send("order", {"total": 1}, id="o-1") == "o-1"
        assert await client.send("order", {"total": 1}, id="o-1") == "o-1"
        ids = await client.send(Event("order", {"total": 2}), Event("order", Receipt(3), id="o-3"))
        await engine.until_idle()
        assert len(ids[0]) == 32
        assert ids[1] == "o-3"
        outputs = {str(run.output): run.run_id for run in engine.runs("charge")}
        assert outputs.keys() == {"{'total': 2}", "{'total': 4}", "{'total': 6}"}
        (found,) = [run.run_id async for run in client.runs("function:charge event_id:o-1")]
        assert found == outputs["{'total': 2}"]


@pytest.mark.parametrize("wrong", [((), {}), ((Event("a"), "b"), {}), ((Event("a"),), {"id": "x"})], ids=str)
async def test_a_wrong_call_of_send_is_refused(wrong: tuple[Any, Any]) -> None:
    """The error says what send takes, before anything is sent."""
    positional, named = wrong
    with pytest.raises(InvalidInput, match=r"use Event|give events"):
        await Client().send(*positional, **named)


async def test_invoke_starts_one_function_and_returns_its_typed_result() -> None:
    """The function with the same trigger does not start; a repeated request waits for the same run."""
    async with client_of_engine() as (client, engine):
        assert await client.invoke(charge, {"total": 4}, request_id="r") == Receipt(8)
        assert await client.invoke("charge", {"total": 9}, request_id="r") == {"total": 8}
        assert [run.function for run in engine.runs()] == ["charge"]
        handle = await client.start(charge, {"total": 1}, user={"name": "ann"})
        assert await client.handle(handle.run_id).result() == {"total": 2}
        assert (await handle.run()).events[0]["user"] == {"name": "ann"}
        stream = handle.stream("progress")
        assert [message.data async for message in stream] == [2]
        assert stream.status == "completed"


async def test_invoke_raises_the_failure_of_the_run() -> None:
    """The error has the run, the class, the message and the code."""
    async with client_of_engine() as (client, engine):
        with pytest.raises(RunFailed, match="of 'refuse' is failed: NonRetriableError: the card was refused") as caught:
            await client.invoke("refuse")
        (run,) = engine.runs()
        error = caught.value
        assert (error.run_id, error.status, error.name) == (run.run_id, "failed", "NonRetriableError")
        assert (error.message, error.code) == ("the card was refused", "non-retriable")
        with pytest.raises(RequestRefused, match="no function 'none' is registered; start a worker") as refused:
            await client.invoke("none")
        assert (refused.value.status, refused.value.reason) == (404, "not-found")
        with pytest.raises(InvalidInput, match="use a JSON object"):
            await client.invoke("refuse", [1])


async def test_a_run_that_does_not_end_can_be_waited_for_again() -> None:
    """After the timeout the run continues; its id leads to the result, to a cancellation, or to why it waits."""
    async with client_of_engine() as (client, engine):
        with pytest.raises(RunNotEnded, match=r"has not ended within 0\.05 s; it continues") as caught:
            await client.invoke(approve, {"order": 7}, timeout=0.05)
        run_id = caught.value.run_id
        assert isinstance(caught.value, TimeoutError)
        (reason,) = (await client.run(run_id)).why
        assert (reason.code, "approve/7" in reason.text) == ("signal", True)
        waiting = asyncio.ensure_future(client.handle(run_id).result())
        assert await client.signal("approve/7", {"by": "ann"})
        assert not await client.signal("approve/7")
        assert await waiting == {"by": "ann"}
        other = await client.start(approve, {"order": 8})
        await engine.until_idle()
        assert await other.cancel("wrong order")
        assert await client.cancel(other.run_id)
        assert not await client.cancel(run_id)
        with pytest.raises(RunFailed, match=r"is cancelled: .*wrong order"):
            await other.result()


async def test_the_result_of_a_run_that_continued_as_new_is_the_last() -> None:
    """A client follows the successors."""
    async with client_of_engine() as (client, engine):
        assert await client.invoke("count-down", {"left": 3}) == "done"
        assert len(engine.runs()) == 4


async def test_a_signal_may_start_the_run_that_takes_it() -> None:
    """The receipt says which run has it, and whether it was started."""
    async with client_of_engine() as (client, engine):
        receipt = await client.signal_with_start("approve/1", "yes", function=approve, start={"order": 1})
        await engine.until_idle()
        assert receipt.started
        assert (await client.run(receipt.run_id)).output == "yes"


async def test_runs_are_listed_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs of a filter, the newest first, or as many as asked for."""
    monkeypatch.setattr("stepstream.client.run_control._PAGE", 2)
    async with client_of_engine() as (client, engine):
        await client.send(*[Event("order", {"total": number}) for number in range(5)])
        await engine.until_idle()
        listed = [run.run_id async for run in client.runs("function:charge")]
        assert listed == sorted((run.run_id for run in engine.runs("charge")), reverse=True)
        assert [run.run_id async for run in client.runs("function:charge", limit=3)] == listed[:3]
        assert [run.run_id async for run in client.runs("function:charge", before=listed[3])] == listed[4:]
        assert [run async for run in client.runs("function:none")] == []
        with pytest.raises(RequestRefused, match="stauts") as caught:
            _ = [run async for run in client.runs("stauts:failed")]
        assert (caught.value.status, caught.value.reason) == (400, "invalid-filter")


async def test_runs_are_rerun_paused_and_resumed() -> None:
    """The same request reruns a run once; a run that is not paused cannot be resumed."""
    async with client_of_engine() as (client, engine):
        first = await client.start(charge, {"total": 1})
        await first.result()
        again = [await client.rerun(first.run_id, data={"total": 5}, request_id="q", why="test") for _ in range(2)]
        assert again[0] == again[1]
        assert await client.handle(again[0]).result() == {"total": 10}
        open_run = await client.start(approve, {"order": 1})
        await engine.until_idle()
        await client.pause(open_run.run_id, until="2h", why="bank is down")
        await engine.until_idle()
        assert ((await open_run.run()).paused or {})["why"] == "bank is down"
        assert [await client.resume(open_run.run_id) for _ in range(2)] == [True, False]
        with pytest.raises(RequestRefused, match="there is no run"):
            await client.pause("none")


def names_of(kind: type[Any]) -> set[str]:
    """Return the names of the fields of a class."""
    return {field.name for field in dataclasses.fields(kind)}


async def test_results_have_all_fields_of_the_api() -> None:
    """A field that the API adds must be added to the classes of the client."""
    async with (
        engine_served(app) as (engine, url),
        Client(url, **OPTIONS) as client,
        aiohttp.ClientSession(url, headers={"Authorization": "Bearer api-key"}) as session,
    ):
        await client.start(approve, {"order": 1})
        await engine.until_idle()
        (run,) = engine.runs()

        async def fetched(path: str) -> Any:
            async with session.get(path) as response:
                return await response.json()

        shown, listed = await fetched(f"/v1/runs/{run.run_id}"), await fetched("/v1/runs")
        assert shown.keys() == names_of(Run)
        assert listed["runs"][0].keys() < names_of(Run)
        assert shown["steps"][0].keys() == names_of(RunStep)
        assert names_of(RunAttempt) == names_of(FailedAttempt)
        assert names_of(RunLimitDecision) == names_of(LimitDecision)
        assert names_of(RunPassedLimit) == names_of(PassedLimit)
        assert shown["why"][0].keys() == names_of(RunReason)
        functions = await fetched("/v1/functions")
        assert functions["functions"][0].keys() == names_of(FunctionInfo)
        assert [each.id async for each in client.functions()] == [each["id"] for each in functions["functions"]]
        found = await client.run(run.run_id)
        assert (found.steps[0].id, found.has_ended, found.app) == ("approval", False, "shop")


async def test_the_example_of_the_page_sends_and_invokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of docs/client.md gets a price, and says why there is none."""
    write_files(DOCS / "client.md", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    desk = importlib.import_module("desk")
    async with engine_served(app) as (engine, url):
        assert await desk.desk(url, "api-key", "event-key") == ["order-7", "the price is 12"]
        async with Client(url, **OPTIONS) as client:
            assert (await desk.quote(client, 8)).startswith("no price: sold out (run ")
        assert len(engine.runs("price-order")) == 2


async def test_a_client_of_a_wrong_key_or_address_says_so() -> None:
    """A wrong key is refused; an address where no engine listens is tried four times."""
    pauses = Pauses()
    async with engine_served(app) as (_, url), Client(url, pause=pauses) as stranger:
        with pytest.raises(RequestRefused, match="send the API key"):
            await stranger.run("x")
        with pytest.raises(RequestRefused, match="the event key is wrong"):
            await stranger.send("order")
        assert pauses.seconds == []
    async with Client(url, pause=pauses) as lost:
        with pytest.raises(
            EngineUnreachable, match=r"no answer to POST http.*/v1/signals: .*; check the addr"
        ) as caught:
            await lost.signal("x")
        assert not caught.value.is_sent
        longest = [0.25, 0.5, 1.0]
        assert all(most / 2 <= got <= most for got, most in zip(pauses.seconds, longest, strict=True))
    with pytest.raises(InvalidInput, match="use it in `async with`"):
        await lost.run("x")
    with pytest.raises(InvalidInput, match="api_key: use ASCII"):
        Client(api_key="a b")


async def test_a_response_that_is_cut_anywhere_changes_nothing_twice() -> None:
    """Wherever the answers to a request are cut, and if they are cut twice, each call has one effect and returns it."""
    async with cut_client() as (client, engine, proxy):
        await client.start(charge, request_id="size")
        cuts = range(-1, proxy.sizes[-1], 3)
        for cut in cuts:
            proxy.cuts = [cut, cut]
            handle = await client.start(charge, {"total": cut}, request_id=f"r{cut}")
            proxy.cuts = [cut]
            assert await handle.result() == Receipt(cut * 2)
        assert len(engine.runs("charge")) == len(cuts) + 1


async def test_calls_that_change_something_are_repeated_if_that_is_safe() -> None:
    """Without an answer an event, a rerun and a cancellation are sent again; a signal is not."""
    async with cut_client() as (client, engine, proxy):
        for cut in (-1, 0, 20):
            proxy.cuts = [cut, cut]
            await client.send("order", {"total": 1})
        await engine.until_idle()
        runs = engine.runs("charge")
        assert len(runs) == 3
        proxy.cuts = [0, 0]
        again = await client.rerun(runs[0].run_id)
        await engine.until_idle()
        assert [run.run_id for run in engine.runs("charge") if run.origin] == [again]
        waiting = await client.start(approve, {"order": 1})
        await engine.until_idle()
        proxy.cuts = [-1]
        with pytest.raises(EngineUnreachable, match="may have taken effect: look at the run") as caught:
            await client.signal("approve/1")
        assert caught.value.is_sent
        assert not (await waiting.run()).has_ended
        proxy.cuts = [0]
        assert await waiting.cancel()


async def test_an_answer_of_something_else_is_not_taken_for_an_engine() -> None:
    """The error says to check the address."""

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0) + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        await writer.drain()
        writer.close()

    answers = [b"HTTP/1.1 200 OK", b"HTTP/1.1 302 X\r\nLocation: /x", *[b"HTTP/1.1 502 X"] * 4, b"HTTP/1.1 404 X"]
    async with await asyncio.start_server(page, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with Client(url, pause=Pauses()) as client:
            for status in (200, 302):
                with pytest.raises(RequestRefused, match="check the address") as caught:
                    await client.run("x")
                assert (caught.value.status, caught.value.reason) == (status, "not-an-engine")
            with pytest.raises(EngineUnreachable, match="status 502"):
                await client.run("x")
            with pytest.raises(RequestRefused, match="status 404"):
                await client.signal("x")
    assert answers == []


async def test_a_wait_outlasts_an_engine_that_does_not_answer() -> None:
    """While a result is awaited, an engine may be away for longer than the attempts of a request."""
    async with cut_client() as (client, engine, proxy):
        handle = await client.start(approve, {"order": 1})
        await engine.until_idle()
        waiting = asyncio.ensure_future(handle.result())
        proxy.cuts = [-1] * 9
        await engine.signal("approve/1", "late")
        assert await waiting == "late"


async def test_a_request_returns_the_reply_of_its_run() -> None:
    """A repeated one has the same reply; what the run does not take is refused, with the status of the response."""
    async with client_of_engine() as (client, engine):
        handle = await client.start(add_up)
        await engine.until_idle()
        assert await handle.request("add up", 2, request_id="a") == 2
        assert await client.request(handle.run_id, "add up", 3) == 5
        assert await handle.request("add up", 2, request_id="a") == 2
        with pytest.raises(RequestRefused, match="data") as unfit:
            await handle.request("add up", "x")
        with pytest.raises(RequestRefused, match="no step of the run waits") as unknown:
            await handle.request("other", timeout="0s")
        assert (unfit.value.status, unknown.value.status) == (422, 409)


async def test_a_late_reply_is_awaited_by_the_id_of_its_request() -> None:
    """After the timeout the error has the id, and a later call with it returns the reply; the run adds it once."""
    async with client_of_engine() as (client, engine):
        handle = await client.start(add_up)
        await engine.until_idle()
        with pytest.raises(NoReply, match="has not replied") as late:
            await handle.request("add up", 500, timeout="0s")
        waiting = asyncio.ensure_future(handle.request("add up", 500, request_id=late.value.request_id))
        await engine.advance("1h")
        assert (await waiting, late.value.run_id) == (500, handle.run_id)


async def test_a_request_cut_at_any_byte_is_taken_once() -> None:
    """The connection is lost before the request, or anywhere in its response."""
    async with cut_client() as (client, engine, proxy):
        handle = await client.start(add_up)
        await engine.until_idle()
        assert await handle.request("add up", 1) == 1
        cuts = range(-1, proxy.sizes[-1], 8)
        for count, cut in enumerate(cuts, 2):
            proxy.cuts = [cut, cut]
            assert await handle.request("add up", 1) == count
        taken = [step for step in engine.run("add-up").steps if step.id == "add up" and step.status == "completed"]
        assert len(taken) == len(cuts) + 1
