"""What the documents say to type: the quickstart and each endpoint are run, every other command line is parsed."""

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.parsing import SETTINGS, parse
from tests.docs.pages import DOCS, PAGES, QUICKSTART, blocks, write_files
from tests.docs.terminal import Terminal, terminal
from tests.tidy_rules import ROOT

APPROVAL = """
from stepstream import Concurrency


@app.function(on("shop/refund.asked"), concurrency=Concurrency(9, counts="runs"))
async def refund(ctx: Context) -> None:
    pass


@app.function(on("shop/order.created"))
async def approve(ctx: Context) -> object:
    return await ctx.step.wait_for_signal("approval", signal="approved/42", timeout="1h")


@app.function(on("shop/order.created"))
async def ask(ctx: Context) -> object:
    decision = await ctx.step.wait_for_approval("question", title="Is it right?", timeout="1h")
    return decision and decision.approved


@app.function(on("shop/order.created"))
async def count(ctx: Context) -> None:
    total = 0
    while request := await ctx.step.wait_for_request("add", timeout="1h"):
        total += request.data["amount"]
        await request.reply({"total": total})
"""


# The steps that must wait before an endpoint is called.
AWAITED = {"/v1/signals": "approval", "`GET /v1/approvals`": "question", "`POST /v1/runs/{id}/requests/": "add"}


def typed(page: Path) -> list[list[str]]:
    """Return the command lines of a page's shell blocks, each as words."""
    lines = [line for block in blocks(page, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def mentioned(page: Path) -> list[list[str]]:
    """Return the command lines with options that a page names within a sentence, each as words."""
    return [shlex.split(line) for line in re.findall(r"`(stepstream [^`\n]* --[^`\n]+)`", page.read_text("utf-8"))]


def pattern_of(line: str) -> str:
    """Return a line without what differs between two machines: times, ids and durations."""
    return re.sub(r"\b(?=[A-Z0-9]*\d)[A-Z0-9]{6,}\b|\d[\d.,:]*", "#", line.strip())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the quickstart's files."""
    write_files(QUICKSTART, tmp_path)
    return tmp_path


@pytest.fixture
def serving(shop: Path) -> Iterator[Terminal]:
    """`stepstream dev shop.py` with a queue, and a function that waits for a signal."""
    code = (shop / "shop.py").read_text("utf-8").replace('App("shop")', 'App("shop", queues=["gpu"])')
    (shop / "shop.py").write_text(code + APPROVAL, encoding="utf-8")
    with terminal(shop) as opened:
        opened.dev("shop.py")
        yield opened


@pytest.mark.slow
@pytest.mark.long
def test_quickstart_shows_what_happens(shop: Path) -> None:
    """The commands of the quickstart, in their order, print what the page prints; the kill loses nothing."""
    with terminal(shop) as opened:
        run_id = ""
        for words in typed(QUICKSTART):
            match words:
                case ["stepstream", "dev", *arguments]:
                    opened.dev(*arguments)
                case ["pkill", "-9", *_]:
                    opened.kill()
                case ["stepstream", "send", "shop/order.created", *_]:
                    opened.run(*words)
                    run_id = opened.wait_for("shipped waits").split()[1]
                case ["stepstream", "send", *_]:
                    opened.run(*words)
                    opened.wait_for("completed in")
                case ["stepstream", "runs", "show", _]:
                    opened.run("stepstream", "runs", "show", run_id)
                case ["stepstream", *_]:
                    opened.run(*words)
        shown = [pattern_of(line) for line in opened.shown]
        assert shown.count("charging # for order #") == 1
        printed = [pattern_of(line) for block in blocks(QUICKSTART, "text") for line in block.text.splitlines()]
        missing = [line for line in printed if line not in shown]
        assert not missing, "\n".join([*missing, "is not in", *shown])


@pytest.mark.long
@pytest.mark.slow
def test_replay_commands_of_testing_page(tmp_path: Path) -> None:
    """The recorded events go through the functions, in memory and durably, and the runs can be listed."""
    write_files(DOCS / "testing.md", tmp_path)
    opened = Terminal(tmp_path)
    commands = [words for words in typed(DOCS / "testing.md") if words[0] == "stepstream"]
    *replays, listing, page = commands
    assert len(replays) == 2
    for words in replays:
        shown = opened.run(*words)
        assert "2 completed" in shown, shown
        assert "timeouts 1" in shown
    assert opened.run(*listing).count("fulfil-order") == 2
    assert page == ["stepstream", "dev", "shop.py", "--data-dir", "state/", "--open"]


@pytest.mark.slow
def test_every_endpoint_has_an_example_that_works(serving: Terminal) -> None:
    """docs/http.md has all endpoints, and what it shows for each is answered."""
    text = (DOCS / "http.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[A-Z]+ /.*?`): .* \| `(curl .*?)` \|$", text, re.MULTILINE)
    described: dict[str, Any] = httpx.get(f"{serving.url}/openapi.json").json()["paths"]
    named = {tuple(each) for cell, _ in rows for each in re.findall(r"`([A-Z]+) (/[^`]*)`", cell)}
    known = {(method.upper(), re.sub(r"{\w+_id}", "{id}", path)) for path in described for method in described[path]}
    assert named == known | {("GET", "/openapi.json")}
    names: dict[str, str] = {}
    for endpoint, example in rows:
        if "/link`" in endpoint:
            # Links are signed with the API key, which this process does not have.
            assert request(serving, example, names).status_code == 409
            continue
        for waiting in (step for named, step in AWAITED.items() if named in endpoint):
            serving.wait_for(f"{waiting} waits")
        answer = request(serving, example, names)
        # The process of the example has no dead letter.
        assert answer.is_success or "'0-17' is not among the latest" in answer.text, f"{example}: {answer.text}"
        if "/metrics" in endpoint:
            assert "stepstream_live_streams_open " in answer.text
        names |= names_in(endpoint, answer)


def names_in(endpoint: str, answer: httpx.Response) -> dict[str, str]:
    """Return the words of later examples that an answer gives a value."""
    match endpoint.split("`")[1]:
        case "POST /e/{key}":
            return {"EVENT_ID": answer.json()["ids"][0]}
        case "POST /v1/bulk":
            return {"OPERATION_ID": answer.json()["id"]}
        case "GET /v1/approvals":
            (asked,) = answer.json()["approvals"]
            return {"ASKED": asked["run_id"], "STEP": asked["step"]}
        case "GET /v1/runs":
            found = {run["function"]: run["run_id"] for run in answer.json()["runs"]}
            return {"RUN_ID": found["fulfil-order"], "COUNTER": found["count"]}
        case "POST /v1/runs/{id}/requests/{name}":
            assert answer.json()["reply"] == {"total": 2}
            return {"REQUEST": answer.json()["id"]}
    return {}


def request(serving: Terminal, example: str, names: dict[str, str]) -> httpx.Response:
    """Do what a curl command does."""
    for name, value in names.items():
        example = example.replace(name, value)
    words = shlex.split(example)[1:]
    (address,) = [word for word in words if word.startswith("localhost:8288/")]
    data = words[words.index("-d") + 1] if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "POST" if data else "GET"
    url = serving.url + address.removeprefix("localhost:8288")
    if url.endswith("/stream"):
        # It stays open.
        with httpx.stream(method, url) as answer:
            return answer
    return httpx.request(method, url, content=data)


@pytest.mark.slow
async def test_fastapi_page_sends_finds_and_waits(serving: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The web service of docs/fastapi.md starts an order, finds its run, approves it and returns its result."""
    write_files(DOCS / "fastapi.md", serving.folder)
    monkeypatch.syspath_prepend(serving.folder)
    monkeypatch.setenv("STEPSTREAM_URL", serving.url)
    web = importlib.import_module("web")
    async with (
        web.lifespan(web.web),
        httpx.AsyncClient(transport=httpx.ASGITransport(web.web), base_url="http://web") as client,
    ):
        assert (await client.get("/orders/7")).status_code == 404
        for _ in range(2):
            assert (await client.post("/orders/7?total=12")).json() == {"event_id": "order-7"}
        serving.wait_for("shipped waits")
        shown = (await client.get("/orders/7")).json()
        assert shown["status"] == "running"
        assert len([run async for run in web.engine.runs("function:fulfil-order")]) == 1
        serving.run("stepstream", "send", "shop/parcel.shipped", "--data", '{"order_id": 7}')
        result = (await client.get("/orders/7/result")).json()
        assert result == {
            "status": "completed",
            "output": {"receipt": "receipt for 12", "shipped": True},
            "error": None,
        }
        assert (await client.post("/approvals/42?by=ann")).json() == {"approved": "42"}
        assert (await client.post("/approvals/43?by=ann")).status_code == 409


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_page_parse(page: Path) -> None:
    """Each `stepstream` command in a shell block or a sentence has arguments and options that exist."""
    for words in typed(page) + mentioned(page):
        if words[0] == "stepstream" and not {"--version", "--help"} & set(words):
            ends = [at for at, word in enumerate(words) if word in ("&", "&&", "|", ">")]
            parse(words[1 : ends[0] if ends else None])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_of_page_exist(page: Path) -> None:
    """Each STEPSTREAM_… that a page names is read by the code."""
    assert not set(re.findall(r"STEPSTREAM_[A-Z_]*[A-Z]", page.read_text("utf-8"))) - SETTINGS


def test_make_targets_exist() -> None:
    """Each `make …` that a document names is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= targets
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
    assert f"Python {needs.removeprefix('>=')} or newer" in (ROOT / "README.md").read_text("utf-8")
