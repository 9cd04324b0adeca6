"""Tokens of streams: a browser reads with one what it names, until it expires, and nothing else."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from stepstream import App, Context, Event, on
from stepstream.api.approval_links import ApprovalLink, ApprovalLinks
from stepstream.api.guards import Keys
from stepstream.api.signing import TokenSigner
from stepstream.api.stream_tokens import StreamToken
from stepstream.testing import VirtualEngine
from tests.api.pages.streaming import api_of, streaming

KEYS = Keys("event-key", "api-key", "read-key")
BEARER = {"Authorization": "Bearer api-key"}
NO_RUN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
app = App("live")


@app.function(on("go"))
async def talk(ctx: Context) -> None:
    """Publish on two channels of the run and on two shared ones; the run stays open."""

    async def body() -> None:
        for channel in ("tokens", "debug"):
            await ctx.publish(channel, channel)
        for channel in ("news/all", "staff"):
            await ctx.publish(channel, channel, shared=True)

    await ctx.step.run("talk", body)
    await ctx.step.sleep("nap", "30d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield an engine with two runs that have published and sleep."""
    async with VirtualEngine(app) as made:
        await made.send(Event("go"), Event("go"))
        yield made


def client_of(engine: VirtualEngine, keys: Keys = KEYS) -> httpx.AsyncClient:
    """Return a client of an API with keys; it sends none by itself."""
    transport = httpx.ASGITransport(app=api_of(engine, keys=keys))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def ask(engine: VirtualEngine, body: Any, keys: Keys = KEYS) -> httpx.Response:
    """Return the response of the API to a request for a token."""
    async with client_of(engine, keys) as client:
        return await client.post("/v1/streams/tokens", json=body, headers=BEARER)


async def token_of(engine: VirtualEngine, **body: Any) -> str:
    """Return a token."""
    token: str = (await ask(engine, body)).json()["token"]
    return token


async def refusal(engine: VirtualEngine, path: str) -> tuple[int, str]:
    """Return the status and the message by which a request is refused."""
    async with client_of(engine) as client:
        answer = await client.get(path)
        if "token=" in path and path.partition("?")[0].endswith("/stream"):
            # A browser repeats a request without end if it may not read the refusal.
            assert answer.headers["access-control-allow-origin"] == "*"
        return answer.status_code, answer.json()["error"]["message"]


def path_of(engine: VirtualEngine, number: int = 0) -> str:
    """Return the path of the stream of a run."""
    return f"/v1/runs/{engine.runs()[number].run_id}/stream"


async def test_a_token_opens_the_streams_that_it_names(engine: VirtualEngine) -> None:
    """Any engine with the same API key accepts it, in a page of any site; other streams are 403."""
    run_id = engine.runs()[0].run_id
    answer = (await ask(engine, {"runs": [run_id], "channels": ["news/all"]})).json()
    assert answer["expires_at"] == engine.now_ms + 15 * 60_000
    query = f"?token={answer['token']}"
    for path, data in ((path_of(engine), '"tokens"'), ("/v1/channels/news/all/stream", '"news/all"')):
        async with streaming(api_of(engine, keys=KEYS), path + query, origin="https://shop.example") as stream:
            await stream.read()
            assert f'"data":{data}' in (await stream.read() or "")
            assert (stream.status, stream.headers["access-control-allow-origin"]) == (200, "*")
    other = engine.runs()[1].run_id
    for path, reason in (
        (path_of(engine, 1), f"does not open run '{other}'; ask for one that has it in `runs`"),
        (f"/v1/runs/{NO_RUN}/stream", f"does not open run '{NO_RUN}'"),
        ("/v1/channels/staff/stream", "does not open shared channel 'staff'; ask for one that has it in `channels`"),
        (f"/v1/channels/{run_id}/stream", "does not open shared channel"),
        ("/v1/runs/news%2Fall/stream", ""),
    ):
        status, message = await refusal(engine, path + query)
        assert (status, reason in message) == (403 if reason else 404, True), message


async def test_a_token_may_name_channels_of_its_runs(engine: VirtualEngine) -> None:
    """The stream has only these, also if the request asks for all; another channel is 403."""
    token = await token_of(engine, runs=[engine.runs()[0].run_id], run_channels=["debug", "none"])
    path = f"{path_of(engine)}?token={token}"
    for more in ("", "&channel=debug"):
        async with streaming(api_of(engine, keys=KEYS), path + more) as stream:
            await stream.read()
            assert '"data":"debug"' in (await stream.read() or "")
        assert b'"tokens"' not in stream.body
    status, message = await refusal(engine, path + "&channel=debug&channel=tokens")
    assert (status, message) == (
        403,
        "this token does not open channel 'tokens'; ask for one that has it in `run_channels`",
    )


async def test_an_expired_token_is_refused_and_ends_its_streams(engine: VirtualEngine) -> None:
    """An open stream ends with an event, and a client with a new token continues after its last message."""
    path, run_id = path_of(engine), engine.runs()[0].run_id
    token = await token_of(engine, runs=[run_id], expires="1m")
    async with streaming(api_of(engine, keys=KEYS), f"{path}?token={token}") as stream:
        first = [await stream.read() for _ in range(2)][1] or ""
        await engine.advance("1m")
        while (part := await stream.read()) and part.startswith("id: "):
            pass
        assert [part, await stream.read()] == ["event: expired\ndata: {}\n\n", None]
    assert await refusal(engine, f"{path}?token={token}") == (
        401,
        "this token expired at 2026-01-01T00:01:00+00:00; ask your server for a new one",
    )
    last_id = first.split("\n")[0].removeprefix("id: ")
    again = f"{path}?token={await token_of(engine, runs=[run_id])}&after={last_id}"
    async with streaming(api_of(engine, keys=KEYS), again) as stream:
        await stream.read()
        assert '"data":"debug"' in (await stream.read() or "")


async def test_a_changed_token_is_refused(engine: VirtualEngine) -> None:
    """So is one that another key signed, one for another purpose, and an empty one."""
    path, run_id = path_of(engine), engine.runs()[0].run_id
    token = await token_of(engine, runs=[run_id])
    body, _, signature = token.partition(".")
    other = StreamToken(2**60, (run_id,))
    link = ApprovalLinks("api-key", is_served=True).token(ApprovalLink(run_id, "step", 2**60))
    for wrong in (
        "",
        "x",
        body,
        f"{body}.",
        f"{body}.{'A' * 43}",
        f"{body}x.{signature}",
        f"{token}é",
        "A" * 5_000,
        TokenSigner("stream token", "read-key").token(other),
        TokenSigner("stream token", "").token(other),
        TokenSigner("approval link", "api-key").token(other),
        TokenSigner("stream token", "api-key").token(ApprovalLink(run_id, "step", 2**60)),
        link,
    ):
        status, message = await refusal(engine, f"{path}?token={wrong}")
        assert (status, "not of this engine's API key" in message) == (401, True)
    async with client_of(engine) as client:
        # The key does not help a request whose token is wrong: its client expects a limited right.
        assert (await client.get(f"{path}?token=x", headers=BEARER)).status_code == 401


async def test_a_token_opens_nothing_else(engine: VirtualEngine) -> None:
    """Neither as a parameter nor as a key does it open another route, nor the link of an approval."""
    token = await token_of(engine, runs=[engine.runs()[0].run_id], channels=["news/all"])
    bearer = {"Authorization": f"Bearer {token}"}
    async with client_of(engine) as client:
        described = (await client.get("/openapi.json", headers=BEARER)).json()["paths"]
        routes = [(method, path) for path in described for method in described[path]]
        assert len(routes) > 40
        for method, path in routes:
            if path in ("/health", "/ready"):
                continue
            filled = path.replace("{run_id}", engine.runs()[0].run_id).replace("{", "").replace("}", "")
            answers = [await client.request(method, filled, headers=bearer)]
            if not path.endswith("/stream"):
                answers.append(await client.request(method, filled, params={"token": token}))
            for answer in answers:
                assert answer.status_code == 401, path
                assert "access-control-allow-origin" not in answer.headers
        assert (await client.get(f"/ui/approve/{token}")).status_code == 404
        assert (await client.get("/ui/runs", params={"token": token})).status_code == 401


async def test_issuing_needs_the_api_key(engine: VirtualEngine) -> None:
    """A token issues no other tokens; without an API key, tokens work like those of an engine that has one."""
    run_id = engine.runs()[0].run_id
    async with client_of(engine) as client:
        assert (await client.post("/v1/streams/tokens", json={"runs": [run_id]})).status_code == 401
    keyless = (await ask(engine, {"runs": [run_id]}, Keys())).json()["token"]
    async with streaming(api_of(engine, keys=Keys()), f"{path_of(engine)}?token={keyless}") as stream:
        assert await stream.read()
        assert stream.status == 200
    async with client_of(engine, Keys()) as client:
        assert (await client.get(f"{path_of(engine, 1)}?token={keyless}")).status_code == 403
    assert (await refusal(engine, f"{path_of(engine)}?token={keyless}"))[0] == 401


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ([], "body"),
        ({"runs": "x"}, "body"),
        ({"run": NO_RUN}, "body"),
        ({"runs": [NO_RUN, "x"]}, "runs"),
        ({"channels": ["x"], "run_channels": ["y"]}, "run_channels"),
        ({"channels": [""]}, "channel"),
        ({"runs": [NO_RUN], "run_channels": ["x" * 257]}, "channel"),
        ({"channels": ["x"], "expires": "25h"}, "expires"),
        ({"channels": ["x"], "expires": "0s"}, "expires"),
        ({"channels": ["x"], "expires": "soon"}, "expires"),
    ],
)
async def test_a_wrong_request_names_the_field(engine: VirtualEngine, body: Any, field: str) -> None:
    """It is answered with 400."""
    answer = await ask(engine, body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_a_token_fits_into_a_url(engine: VirtualEngine) -> None:
    """A request for a longer one is refused, and says that it names too much."""
    assert len(await token_of(engine, runs=[NO_RUN] * 100)) < 4_096
    answer = await ask(engine, {"runs": [NO_RUN] * 110})
    assert answer.status_code == 413
    assert "at most 4,096 are allowed; name fewer runs and channels" in answer.json()["error"]["message"]


async def test_tokens_are_not_logged(engine: VirtualEngine, caplog: pytest.LogCaptureFixture) -> None:
    """Neither issuing nor using one, valid or not, writes it to the log."""
    caplog.set_level(logging.DEBUG)
    token = await token_of(engine, runs=[engine.runs()[0].run_id])
    async with streaming(api_of(engine, keys=KEYS), f"{path_of(engine)}?token={token}") as stream:
        await stream.read()
    for query in (f"token={token}x", f"token={token}&after=x", f"token={token}&more=1"):
        assert token not in (await refusal(engine, f"{path_of(engine)}?{query}"))[1]
    assert "api-key" not in repr([api_of(engine, keys=KEYS).user_middleware, TokenSigner("x", "api-key")])
    own = [each for each in caplog.records if not each.name.startswith("httpx")]
    assert not [each for each in own if token[:40] in each.getMessage()]
