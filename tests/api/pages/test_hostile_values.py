"""Hostile values in every field that a user can write, read on every page that can be reached."""

import asyncio
import logging
import re
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal
from urllib.parse import parse_qsl

import msgspec
import pydantic
import pytest
from selectolax.lexbor import LexborHTMLParser

from stepstream import App, CancelOn, Concurrency, Context, Event, StepError, on
from stepstream.api.http import make_api
from stepstream.api.pages.runs.related import event_ids
from stepstream.api.pages.site import HEADERS
from stepstream.contract.codec import Raw, encode
from stepstream.contract.limits import DEFAULT_LIMITS, MIB, REASON_CHARACTERS_MAX
from stepstream.contract.operators.control import Pause, function_scope, queue_scope
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested
from stepstream.contract.topics import EVENTS
from stepstream.runtime.decisions import Decision, decide
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.reruns import RerunOptions, rerun_request
from stepstream.sdk.event import to_record
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page
from tests.api.pages.streaming import api_of, source_of, streaming
from tests.fakes.facades import facade_of

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = '"><script>alert(1)</script>'
QUOTES = "' onmouseover='alert(1)' x='"
URL = "javascript:alert(1)"
TERMINAL = "\x1b[31mred\x1b]8;;http://evil\x07"
MARKS = "\u202eevil\u2066\u200f\u2069"
SHORT = (IMAGE, SCRIPT, QUOTES, URL, MARKS, "../../etc", "&lt;&amp;")
# What an operator writes: a name, a comment, and a reason of the greatest length.
ALL = " ".join((*SHORT, TERMINAL))
REASON = ALL + "x" * (REASON_CHARACTERS_MAX - len(ALL))
HUGE = IMAGE + "x" * (4 * MIB - 1_000)
# A page of all of them has less than this; most of it is the text of tracebacks and results that are open.
PAGE_BYTES_MAX = MIB
PAGES_MAX = 600
PAGES_OF_A_KIND_MAX = 24
ELEMENTS = {"img", "iframe", "object", "embed", "base", "style", "math", "foreignobject", "use"}

app = App("hostile", queues=["gpu"])
CONDITION = f"event.data.text != '{IMAGE}{MARKS}'"
PER_TEXT = Concurrency(1_000, counts="runs", key="event.data.key")


class Refused(Exception):
    """An error whose name, message and traceback have hostile text."""


Refused.__name__ = Refused.__qualname__ = IMAGE


def refuse(message: str) -> None:
    """Raise an error with a message."""
    raise Refused(message)


def beat(ctx: Context) -> None:
    """Report a hostile progress and log by a hostile logger; then fail, so that the attempt is kept with both."""
    logging.getLogger(ALL).warning(ALL)
    ctx.heartbeat(echo(ALL))
    refuse(ALL)


def echo(text: str) -> object:
    """Return a value with a text in each place."""
    return {text: [text, {"nested": text}]}


class HostileForm(pydantic.BaseModel):
    """A form with hostile names, titles, descriptions, defaults and options."""

    text: str = pydantic.Field(SCRIPT + MARKS, title=SCRIPT, description=IMAGE + MARKS)
    option: Literal["<img src=x onerror=alert(1)>", "\u202eevil"] = pydantic.Field("\u202eevil", title=MARKS)
    other: dict[str, str] = pydantic.Field({IMAGE: MARKS}, title=IMAGE)

    model_config = pydantic.ConfigDict(alias_generator=lambda name: f"{name}{MARKS}{IMAGE}")


def text_of(ctx: Context) -> str:
    """Return the hostile text of a run."""
    return str(ctx.event.data["t"])


@app.function(on("form", if_=CONDITION), cancel_on=[CancelOn(SCRIPT, if_=CONDITION)], input=HostileForm)
async def fill(_: Context) -> None:
    """Have a form, conditions and an event with hostile text."""


@app.function(on("hostile/*"), retries=0, concurrency=PER_TEXT)
async def attack(ctx: Context) -> object:
    """Write hostile values wherever a function can."""
    for number, text in enumerate((*SHORT, TERMINAL)):
        await ctx.step.run(text, echo, text)
        ctx.logger.warning("%s", text)
        ctx.set_attributes({f"text-{number}": text})
        ctx.state[f"text-{number}"] = {text: text}
        await ctx.publish(text, echo(text))
    with suppress(StepError):
        await ctx.step.options(retries=1, backoff="0s").run(f"beats {ALL}", beat, ctx)
    huge = ""
    if ctx.event.data["end"] == "huge":
        huge = await ctx.step.run("huge", lambda: HUGE)
        ctx.logger.warning("%s", HUGE)
        with suppress(StepError):
            await ctx.step.run("huge error", refuse, HUGE)
    for number in range(6):
        await ctx.step.run(f"{SCRIPT} {number}", lambda: "done")
    await ctx.step.send_event("sent", Event(SCRIPT, {IMAGE: SCRIPT}, id=MARKS[:1] + "1"))
    if ctx.event.data.get("end") == "failed":
        await ctx.step.run(f"fails {SCRIPT}{TERMINAL}{MARKS}", refuse, SCRIPT + TERMINAL + MARKS + "x" * 10_000)
    if ctx.event.data.get("end") == "open":
        await asyncio.gather(
            ctx.step.wait_for_event(f"w{SCRIPT}", event=IMAGE, if_="async.data.a == event.data.t", timeout="1d"),
            ctx.step.wait_for_signal(f"s{SCRIPT}{ctx.event.id}", signal=QUOTES + ctx.event.id, timeout="1d"),
            ctx.step.sleep(IMAGE, "1d"),
            ctx.step.wait_for_request(f"r{SCRIPT}", schema=HostileForm, timeout="1d"),
            ctx.step.wait_for_approval(
                f"a{SCRIPT}",
                title=text_of(ctx),
                description=text_of(ctx) * 9,
                to=(*SHORT, TERMINAL),
                form=HostileForm,
                timeout="1d",
            ),
        )
    return {IMAGE: huge[: 2 * MIB]}


async def operate(engine: VirtualEngine) -> None:
    """Write hostile values wherever an operator can: names, reasons, comments, and data."""
    operator, index, signal = engine.engine.operator, engine.index, engine.engine.signal
    paused, cancelled, signalled, decided, resumed, *_ = engine.runs(status="running")
    await operator.pause(paused.run_id, Pause(0, ALL, REASON))
    await operator.cancel(cancelled.run_id, ALL, REASON)
    await signal(next(step.detail for step in signalled.steps if step.detail.startswith(QUOTES)), HUGE, ALL)
    (asked,) = (each for each in index.open_approvals() if each.run_id == decided.run_id)
    values = HostileForm.model_construct().model_dump(by_alias=True)
    await decide(signal, asked, Decision(approved=True, by=ALL, comment=ALL * 9, values=values), engine.now_ms)
    failed = index.recorded(engine.runs(status="failed")[0].run_id)
    assert failed
    await operator.rerun(rerun_request(failed, RerunOptions("again", by=ALL, why=REASON), DEFAULT_LIMITS))
    for action in ("pause", "resume"):
        await engine.bulk(action, ids=[resumed.run_id], by=ALL, why=REASON)
    by_event = Filter().having("event_id", event_ids(resumed)[0])
    await engine.bulk("pause", filter=str(by_event), by=ALL, why=REASON)
    await operator.pause_scope(function_scope("attack"), Pause(0, ALL, REASON))
    await operator.pause_scope(function_scope("attack"), None, ALL, REASON)
    await operator.pause_scope(queue_scope("hostile", "gpu"), Pause(0, ALL, REASON))
    for key in (IMAGE, ""):
        limit = "concurrency of function attack"
        await operator.change_limit(LimitChangeRequested(limit, LimitAction.PAUSE, key, by=ALL, why=REASON))
    await engine.until_idle()


async def workers(names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    """Return a worker of each name whose release, versions, client id and host are hostile."""
    return {name: [RunningWorker(ALL, SCRIPT, MARKS, ALL, IMAGE)] for name in names}


def kind_of(url: str) -> tuple[str, ...]:
    """Return what URLs of similar pages have in common: the path without ids, and the names of the parameters."""
    path, _, query = url.partition("?")
    return (re.sub("[0-9A-Z]{26}", "ID", path), *sorted({name for name, _ in parse_qsl(query)}))


async def crawl(browser: Browser) -> dict[str, Page]:
    """Return each page that links lead to, by its URL."""
    pages: dict[str, Page] = {}
    kinds = Counter[tuple[str, ...]]()
    pending = deque(["/ui/", "/ui/bulk"])
    while pending and len(pages) < PAGES_MAX:
        url = pending.popleft().partition("#")[0]
        kind = kind_of(url)
        if url in pages or kinds[kind] == PAGES_OF_A_KIND_MAX:
            continue
        kinds[kind] += 1
        pages[url] = page = await browser.open(url)
        if page.response.headers["content-type"].startswith("text/html"):
            pending += [
                link for node in page.all("a[href]") if (link := node.attributes["href"] or "").startswith("/ui")
            ]
    return pages


def faults(url: str, page: Page) -> list[str]:
    """Return what a hostile value could do on a page."""
    found: list[str] = []
    if page.status not in (200, 404):
        found.append(f"status {page.status}: {page.text[:200]}")
    for name, value in HEADERS.items():
        if page.response.headers.get(name) != value:
            found.append(f"header {name}")
    if not page.response.headers["content-type"].startswith("text/html"):
        return found
    return [f"{url}: {each}" for each in (*found, *faults_of(page.response.text))]


def faults_of(text: str) -> list[str]:
    """Return what a hostile value could do in HTML."""
    # A field for a filter has the text itself; a browser shows it apart from all other text.
    shown = re.sub(r"<input [^>]*>", "", text)
    found = [f"U+{ord(mark):04x}" for mark in "\x00\x1b\x07\u202e\u2066\u200f" if mark in shown]
    if len(text.encode()) > PAGE_BYTES_MAX:
        found.append(f"{len(text.encode()):,} bytes")
    for node in LexborHTMLParser(text).css("*"):
        attributes = node.attributes
        if node.tag in ELEMENTS or (
            node.tag == "script" and not (attributes.get("src") or "").startswith("/ui/static/")
        ):
            found.append(f"element {node.html or ''}"[:200])
        found += [f"attribute {name}" for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action", "data-copy"):
            if not (attributes.get(name) or "/").startswith(("/", "#", "data:,")):
                found.append(f"{name} {attributes[name]}")
    return found


async def streamed(engine: VirtualEngine) -> str:
    """Return what the stream of a run sends when an operator changes it."""
    run_id = engine.runs(status="running")[-1].run_id
    api = api_of(engine)
    page = await Browser(api).open(f"/ui/runs/{run_id}")
    async with streaming(api, source_of(page)) as stream:
        await engine.engine.operator.pause(run_id, Pause(0, ALL, REASON))
        await engine.until_idle()
        while "It was paused by" not in (message := await stream.message()).texts()["run"]:
            pass
    return message.html


@pytest.mark.slow
async def test_hostile_values_stay_text_on_every_page() -> None:
    """No page has an element, an attribute or a link from a value, nor control characters, nor megabytes of it."""
    async with VirtualEngine(app) as engine:
        for end in ("completed", "failed", "open"):
            for number, text in enumerate(SHORT):
                more = text + TERMINAL
                data = {"end": end, "key": text, "t": more, text: {"deep": [more] * 3}}
                await engine.send(
                    Event(f"hostile/{text}", data, id=f"{end}{number}{text[:40]}", user={text: more}, v=more)
                )
        await engine.send(Event("hostile/huge", {"end": "huge", "key": "", "t": HUGE[: 500 * 1_024]}))
        sent_by = to_record(Event("hostile/by", {"end": "completed", "key": "", "t": ALL}, id="by"))
        await engine.engine.send([msgspec.structs.replace(sent_by, meta=Raw(encode({"by": ALL})))])
        await engine.until_idle()
        assert {run.status for run in engine.runs()} == {"completed", "failed", "running"}
        await engine.embedded.append(
            [NewRecord(EVENTS, -1, text.encode(), text.encode(), ((text, text.encode()),)) for text in SHORT]
        )
        await engine.until_idle()
        await operate(engine)
        facade = replace(facade_of(engine.engine), workers=workers)
        pages = await crawl(Browser(make_api(facade, engine.index, lambda: b"", now_ms=lambda: engine.now_ms)))
        assert faults_of(live := await streamed(engine)) == []
        assert "&lt;img src=x onerror=alert(1)&gt;" in live
    assert len(pages) > 100
    assert sum("/raw?" in url for url in pages) > 10
    assert len(pages) < PAGES_MAX
    assert sum("/approvals/" in url for url in pages) > 4
    assert sum("/rerun" in url for url in pages) > 10
    for page in ("/ui/bulk/", "/ui/limit?", "/ui/function?", "/ui/workers"):
        assert any(url.startswith(page) and "\\u202eevil" in found.text for url, found in pages.items()), page
    assert [fault for url, page in pages.items() for fault in faults(url, page)] == []
    for marked in ("Sent by", "Progress", "Attempts of", "raised at"):
        assert any(marked in found.response.text for found in pages.values()), marked
    shown = "".join(page.response.text for url, page in pages.items() if "/raw?" not in url)
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "\\u202eevil" in shown
