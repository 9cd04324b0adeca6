"""How apps are asked to register, and how each kind of answer is read."""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import web

from stepstream.contract.errors import InvalidInput
from stepstream.gateway.sync.app_client import SyncError, Unreachable
from stepstream.gateway.sync.register_route import apps_json
from stepstream.gateway.sync.signing_keys import SigningKeys
from tests.gateway.exchanges import KEY, read
from tests.gateway.sync.registering import Gateway, app_at, registration

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
IN_BAND = {"x-inngest-sync-kind": "in_band"}


def in_band(name: str) -> dict[str, object]:
    """Return what the app of a capture answers about itself."""
    return next(
        each.answer
        for each in read(name)
        if each.fields.get("method") == "PUT" and each.headers.get("x-inngest-sync-kind") == "in_band"
    )


def answering(status: int, text: str, headers: dict[str, str] | None = None) -> Handler:
    """Return an app that always answers the same."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, headers=headers)

    return answer


async def test_answer_in_band_is_the_registration() -> None:
    """Apps of TypeScript answer with their functions; the request is canonical JSON with the URL of the app."""
    gateway, asked = Gateway(), list[tuple[bytes, str | None]]()

    async def answer(request: web.Request) -> web.Response:
        asked.append((await request.read(), request.headers.get("x-inngest-server-kind")))
        return web.json_response(in_band("js4-dev-registration"), headers=IN_BAND)

    async with app_at(answer) as url, gateway.running() as (client, _):
        first, second = await client.sync(url), await client.sync(url)
    assert asked == [(f'{{"url":"{url}"}}'.encode(), "dev")] * 2
    assert (first.app, first.functions, first.modified) == ("demo", len(gateway.serving), True)
    assert second.modified is False


@pytest.mark.parametrize("sdk", ["py", "go"])
async def test_app_that_registers_on_its_own_is_recognised(sdk: str) -> None:
    """Apps of Python and Go send a request of their own before they answer, whatever they were asked for."""
    gateway, sent = Gateway(), registration(f"{sdk}-dev-registration")
    async with gateway.running() as (client, http):

        async def answer(request: web.Request) -> web.Response:
            await http.post("/fn/register", params=request.query, json=sent.body)
            return web.json_response({}, headers={"x-inngest-sync-kind": "out_of_band"})

        async with app_at(answer) as url:
            assert (await client.sync(url)).functions == len(sent.body["functions"])


async def test_app_that_requires_a_signature_in_band_is_asked_plainly() -> None:
    """The SDK for Python before 0.5.19 answers 401 in development too; from then on it is asked once."""
    gateway, sent, asked = Gateway(), registration("py-dev-registration"), list[bool]()
    async with gateway.running() as (client, http):

        async def answer(request: web.Request) -> web.Response:
            asked.append("x-inngest-sync-kind" in request.headers)
            if asked[-1]:
                return web.Response(status=401)
            await http.post("/fn/register", params=request.query, json=sent.body)
            return web.json_response({})

        async with app_at(answer) as url:
            assert [(await client.sync(url)).app for _ in range(2)] == ["demo"] * 2
    assert asked == [True, False, False]


async def test_refused_registration_is_an_error_though_the_app_answers_200() -> None:
    """The SDK for Python answers with 200 whatever the server answered to its registration."""
    gateway, sent = Gateway(), registration("py-dev-registration")
    async with gateway.running() as (client, http):

        async def answer(request: web.Request) -> web.Response:
            await http.post("/fn/register", params=request.query, json=sent.body | {"appname": ""})
            return web.json_response({})

        async with app_at(answer) as url:
            with pytest.raises(InvalidInput, match="name"):
                await client.sync(url)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (answering(200, "{}"), "has not registered here; set INNGEST_BASE_URL"),
        (answering(401, ""), "refuses the signature; set its INNGEST_SIGNING_KEY"),
        (answering(404, ""), "most apps serve it at /api/inngest"),
        (answering(500, "oops"), "answers 500: oops"),
    ],
    ids=["silent", "signature", "path", "bug"],
)
async def test_answers_without_a_registration_say_what_to_do(handler: Handler, reason: str) -> None:
    """The status of the answer alone never means success."""
    gateway = Gateway()
    async with app_at(handler) as url, gateway.running() as (client, _):
        with pytest.raises(SyncError, match=reason):
            await client.sync(url)
    assert gateway.values == []


async def test_a_redirect_within_the_host_is_followed() -> None:
    """The request is repeated as it was, with what it is for; after three redirects the app has no answer."""
    gateway, asked = Gateway(), list[tuple[str, bytes, bool]]()
    moved = {"/api/inngest": "/moved", "/loop": "/loop"}

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, await request.read(), "deployId" in request.query))
        if location := moved.get(request.path):
            raise web.HTTPTemporaryRedirect(location)
        return web.json_response(in_band("js4-dev-registration"), headers=IN_BAND)

    async with app_at(answer, "/{path:.*}") as url, gateway.running() as (client, _):
        await client.sync(url)
        with pytest.raises(SyncError, match="answers 307"):
            await client.sync(url.replace("/api/inngest", "/loop"))
    body = f'{{"url":"{url}"}}'.encode()
    assert asked[:2] == [("/api/inngest", body, True), ("/moved", body, True)]
    assert len(asked) == 2 + 4


async def test_a_redirect_to_another_host_is_refused() -> None:
    """The app of that host would be registered in the place of this one."""
    gateway, asked = Gateway(), list[str]()

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.host)
        raise web.HTTPTemporaryRedirect(f"http://localhost:{request.url.port}/elsewhere?token=1")

    async with app_at(answer) as url, gateway.running() as (client, _):
        with pytest.raises(SyncError, match=r"register http://localhost:\d+/elsewhere instead"):
            await client.sync(url)
    assert [each.partition(":")[0] for each in asked] == ["127.0.0.1"]


async def test_app_that_does_not_run_is_unreachable() -> None:
    """A refused connection differs from an app that answers with an error."""
    async with Gateway().running() as (client, _):
        with pytest.raises(Unreachable):
            await client.sync("http://127.0.0.1:9/api/inngest")


async def test_app_that_no_longer_answers_well_is_listed_with_the_reason() -> None:
    """Its functions stay registered; the reason is gone once it registers again."""
    gateway, good = Gateway(), answering(200, json.dumps(in_band("js4-dev-registration")), IN_BAND)
    answers = [answering(500, "oops"), good, answering(500, "oops"), good]
    states = list[tuple[str, int, str]]()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await answers.pop(0)(request)

    async with app_at(answer) as url, gateway.running() as (client, _):
        for _ in range(4):
            with suppress(SyncError):
                await client.sync(url)
            (app,) = apps_json(gateway.registry)
            states.append((app["app"], app["functions"], app["error"]))
    registered, wrong = ("demo", len(gateway.serving)), f"{url} answers 500: oops"
    assert states == [(url, 0, wrong), (*registered, ""), (*registered, wrong), (*registered, "")]


@pytest.mark.parametrize("end", ["", "\n"])
async def test_answer_is_verified_by_the_signing_key(end: str) -> None:
    """The request is signed, and only a signed answer counts; the SDK for Go adds a line feed after signing."""
    keys = SigningKeys.of(KEY, "")
    assert keys.current is not None
    gateway, body = Gateway(keys), json.dumps(in_band("go-cloud-registration"))
    signatures = [keys.headers(body.encode()), {"x-inngest-signature": "t=1&s=00"}]

    async def answer(request: web.Request) -> web.Response:
        assert keys.verify(request.headers, await request.read())
        return web.Response(text=body + end, headers=IN_BAND | signatures.pop(0))

    async with app_at(answer) as url, gateway.running() as (client, _):
        assert (await client.sync(url)).app == "demo"
        with pytest.raises(SyncError, match="no valid signature"):
            await client.sync(url)


async def test_operator_asks_for_a_registration() -> None:
    """`stepstream gateway sync` needs the API key; its errors are those of the API."""
    handler = answering(200, json.dumps(in_band("js3-dev-registration")), IN_BAND)
    path, key = "/v1/apps/sync", {"authorization": "Bearer secret"}
    async with app_at(handler) as url, Gateway().running() as (_, http):
        found = await http.post(path, json={"url": url}, headers=key)
        assert found.json() == {"app": "demo", "functions": found.json()["functions"], "modified": True}
        refused = [
            await http.post(path, json={"url": url}),
            await http.post(path, json={"uri": url}, headers=key),
            await http.post(path, json={"url": f"{url}/x"}, headers=key),
        ]
    assert [each.status_code for each in refused] == [401, 400, 400]
    assert "/api/inngest" in refused[2].json()["error"]["message"]
