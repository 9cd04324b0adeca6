"""How the registrations of SDKs are answered, and what they write."""

import copy
import json
import logging
from typing import Any

import httpx
import pytest

from stepstream.api.bodies import FREE_BYTES, BodyBudget
from stepstream.contract.codec import encode
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import FunctionRegistered
from stepstream.gateway.sync.addresses import AddressPolicy
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.gateway.wire.registration import read_functions
from tests.gateway.exchanges import KEY
from tests.gateway.sync.registering import Gateway, registration

# The time of the fake gateway.
FAILED_AT = "2026-11-18T11:06:40.000Z"
SDKS = ["py", "js3", "js4", "go"]


@pytest.mark.parametrize("sdk", SDKS)
async def test_captured_registrations_are_accepted_once(sdk: str) -> None:
    """The answer has what SDKs read; the same body again changes nothing, and a part of it retires the rest."""
    gateway, sent = Gateway(), registration(f"{sdk}-dev-registration")
    body: dict[str, Any] = copy.deepcopy(sent.body)
    async with gateway.running() as (_, http):
        first = await http.post("/fn/register", json=body, headers=sent.fields["headers"] | {"host": "gateway"})
        assert (first.status_code, first.headers["x-inngest-server-kind"]) == (200, "dev")
        found = first.json()
        assert (found["ok"], found["modified"]) == (True, True)
        assert {"sync_id", "app_id"} < found.keys()
        ids = {each["id"] for each in body["functions"]}
        assert gateway.serving == ids
        assert {each.app for each in gateway.functions.values()} == {"demo"}
        assert (await http.post("/fn/register", json=body)).json()["modified"] is False
        written = len(gateway.values)
        body["functions"] = body["functions"][:1]
        assert (await http.post("/fn/register", json=body)).json()["modified"] is True
        assert gateway.serving == {body["functions"][0]["id"]} < ids
        assert len(gateway.values) > written
        assert gateway.changed == ["demo", "demo"]


async def test_registrations_count_in_the_budget_of_all_bodies() -> None:
    """While other requests use all memory for bodies, a large registration can be sent again later."""
    body = encode(registration("js4-dev-registration").body) + b" " * FREE_BYTES
    gateway = Gateway(bodies=BodyBudget(0, wait_s=0.001))
    async with gateway.running() as (_, http):
        answer = await http.post("/fn/register", content=body)
        assert (answer.status_code, answer.json()["status"]) == (503, 503)
        assert not gateway.values


async def test_changed_url_moves_all_functions() -> None:
    """The next call of an open run goes where the latest record says, that of a function that is gone as well."""
    gateway, body = Gateway(), registration("js4-dev-registration").body
    moved: dict[str, Any] = copy.deepcopy(body)
    for each in moved["functions"]:
        each["steps"]["step"]["runtime"]["url"] = each["steps"]["step"]["runtime"]["url"].replace(":18302", ":18399")
    gone = moved["functions"].pop()
    async with gateway.running() as (_, http):
        await http.post("/fn/register", json=body)
        assert (await http.post("/fn/register", json=moved)).json()["modified"] is True
        assert (await http.post("/fn/register", json=moved)).json()["modified"] is False
    assert gone["id"] in {each.id for each in gateway.registry.apps()["demo"]} - gateway.serving
    assert all(":18399/" in each.endpoint for each in gateway.registry.apps()["demo"])


async def test_bad_registrations_are_refused_with_the_reason() -> None:
    """SDKs show the text under `error`; without a number under `status` they would fail to parse it."""
    gateway, body = Gateway(), registration("js4-dev-registration").body
    dev = {"x-inngest-expected-server-kind": "cloud"}
    async with gateway.running() as (_, http):
        answers = [
            await http.post("/fn/register", json=body | {"appName": ""}),
            await http.post("/fn/register", content=b"{"),
            await http.post("/fn/register", json=body, headers=dev),
            await http.post("/fn/register", content=b" " * (4 * 1024 * 1024 + 1)),
            await http.post("/fn/register", json=body, headers={"origin": "https://example.com"}),
        ]
    assert [each.status_code for each in answers] == [400, 400, 400, 413, 403]
    assert all(each.json()["status"] == each.status_code and each.json()["error"] for each in answers)
    assert "INNGEST_DEV=1" in answers[2].json()["error"]
    assert gateway.values == []


async def test_functions_that_cannot_run_here_are_named() -> None:
    """The others are registered; what the developer reads says which are not, and why."""
    gateway = Gateway()
    sent = registration("js4-dev-registration").body
    functions = [
        each | {"singleton": {"mode": "skip"}} if "batchEvents" in each else each for each in sent["functions"]
    ]
    async with gateway.running() as (_, http):
        answer = await http.post("/fn/register", json={**sent, "functions": functions})
    assert answer.status_code == 400
    assert "function 'demo-batched': batch= excludes singleton=" in answer.json()["error"]
    assert gateway.serving == {each["id"] for each in functions} - {"demo-batched"}


async def test_refused_function_stays_as_it_was_registered() -> None:
    """It is called at the URL that the app has now; the state of the app says what is wrong until it is corrected."""
    gateway, good = Gateway(), registration("js4-dev-registration").body
    bad = json.loads(json.dumps(good).replace("18302", "18399"))
    for each in bad["functions"]:
        if each["id"] == "demo-batched":
            each["singleton"] = {"mode": "skip"}
    async with gateway.running() as (_, http):
        await http.post("/fn/register", json=good)
        before = gateway.functions["demo-batched"]
        assert (await http.post("/fn/register", json=bad)).status_code == 400
        assert gateway.serving == {each["id"] for each in good["functions"]}
        after = gateway.functions["demo-batched"]
        assert (after.triggers, after.gates, after.retries) == (before.triggers, before.gates, before.retries)
        assert ":18399/" in after.endpoint
        (app,) = await listed(http)
        assert (app["app"], app["functions"], app["failed_at"]) == ("demo", len(gateway.serving), FAILED_AT)
        assert app["error"].startswith("app 'demo': function 'demo-batched': batch= excludes singleton=")
        await http.post("/fn/register", json=good)
        (app,) = await listed(http)
    assert (app["error"], app["failed_at"], app["url"], app["sdk"]) == ("", None, good["url"], "js:v4.24.0")


async def test_app_that_fails_to_register_is_listed() -> None:
    """Its name and URL are those of the registration; who may not register leaves no trace."""
    gateway, body = Gateway(), registration("js4-dev-registration").body
    async with gateway.running() as (_, http):
        await http.post("/fn/register", json=body | {"functions": [{"id": 1}]})
        await http.post("/fn/register", json=body | {"appName": "evil"}, headers={"origin": "https://example.com"})
        await http.post("/fn/register", content=b"{")
        (app,) = await listed(http)
        assert app["error"] == "functions[0].id: a function needs an id that no other one has"
        assert (app["app"], app["url"], app["functions"]) == ("demo", body["url"], 0)
        assert (await http.get("/v1/apps")).status_code == 401


async def listed(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Return the apps as an operator sees them."""
    found: list[dict[str, Any]] = (await http.get("/v1/apps", headers={"authorization": "Bearer secret"})).json()[
        "apps"
    ]
    return found


async def test_refused_registration_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK for Python answers with success although its registration was refused."""
    caplog.set_level(logging.INFO, "stepstream.gateway.sync")
    async with Gateway().running() as (_, http):
        for _ in range(2):
            await http.post("/fn/register", json={"appname": ""})
    assert caplog.messages == ["a registration is refused: appName: an app needs a name of printable characters"]


async def test_app_that_cannot_be_served_is_not_registered() -> None:
    """Its events would start runs that no worker can run."""
    gateway, body = Gateway(), registration("js4-dev-registration").body
    async with gateway.running() as (_, http):
        answer = await http.post("/fn/register", json=body | {"appName": "unprepared"})
    assert (answer.status_code, gateway.values) == (400, [])


async def test_keys_are_required_in_production() -> None:
    """With a signing key, the hash that SDKs send is accepted, that of the fallback key too, and nothing else."""
    other = KEY.replace("00", "11")
    gateway = Gateway(SigningKeys.of(other, KEY))
    statuses = list[int]()
    async with gateway.running() as (_, http):
        for sdk in ("py", "js3", "js4"):
            sent = registration(f"{sdk}-cloud-registration")
            authorization = {"authorization": sent.fields["headers"]["authorization"]}
            statuses.append((await http.post("/fn/register", json=sent.body, headers=authorization)).status_code)
        for refused in ("", "Bearer ", "Bearer undefined", "Bearer 00"):
            answer = await http.post("/fn/register", json=sent.body, headers={"authorization": refused})
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 200, 401, 401, 401, 401]


async def test_function_belongs_to_one_app() -> None:
    """A second app cannot register a function of the first one."""
    gateway, body = Gateway(), registration("js4-dev-registration").body
    async with gateway.running() as (_, http):
        await http.post("/fn/register", json=body)
        other = await http.post("/fn/register", json=body | {"appName": "other"})
        assert (other.status_code, "is a function of app 'demo'" in other.json()["error"]) == (400, True)


async def test_app_of_python_workers_is_left_to_them() -> None:
    """While they serve, no SDK can have their app or one of their functions; afterwards the app can move to an SDK."""
    gateway, body = Gateway(python={"demo", "shop"}), registration("js4-dev-registration").body
    first = body["functions"][0]["id"]
    values = {"demo": FunctionRegistered("old", "demo"), "shop": FunctionRegistered(first, "shop")}
    gateway.values += map(encode, values.values())
    gateway.registry.fold(gateway.values)
    assert gateway.changed == []
    async with gateway.running() as (_, http):
        for reason in ("workers that run Python code", f"function {first!r} of app 'demo' is a function of app 'shop'"):
            answer = await http.post("/fn/register", json=body)
            assert (answer.status_code, reason in answer.json()["error"]) == (400, True)
            gateway.python.discard("demo")
        gateway.python.clear()
        assert (await http.post("/fn/register", json=body)).status_code == 200
    assert gateway.serving == {each["id"] for each in body["functions"]}


async def test_url_that_is_not_allowed_is_refused() -> None:
    """An app on a private address is registered only if the operator allows it."""
    gateway = Gateway(addresses=AddressPolicy())
    async with gateway.running() as (_, http):
        answer = await http.post("/fn/register", json=registration("go-dev-registration").body)
    assert (answer.status_code, "--allow-host" in answer.json()["error"]) == (400, True)


async def test_app_at_a_url_is_removed() -> None:
    """All its functions are retired, by the URL with or without parameters; an unknown URL changes nothing."""
    gateway, body = Gateway(), registration("py-dev-registration").body
    async with gateway.running() as (_, http):
        await http.post("/fn/register", json=body)
    assert not await gateway.registry.remove("http://127.0.0.1:1/api/inngest")
    assert gateway.serving
    assert gateway.registry.urls() == {"demo": body["url"]}
    gateway.registry.failures.failed(InvalidInput("it is wrong"), "demo", body["url"])
    assert await gateway.registry.remove(f"{body['url']}?x=1")
    assert (gateway.serving, gateway.registry.urls(), gateway.registry.failures.all()) == (set(), {}, [])


async def test_app_of_workers_needs_no_address() -> None:
    """Its URL is none, and nothing asks it to register."""
    gateway, body = Gateway(addresses=AddressPolicy()), registration("js4-dev-registration").body
    for each in body["functions"]:
        each["steps"]["step"]["runtime"] = {"type": "ws", "url": f"wss://connect/?fnId={each['id']}&stepId=step"}
    await gateway.registry.register(read_functions("demo", "js:v4.24.0", "v1", body["functions"]))
    assert gateway.serving == {each["id"] for each in body["functions"]}
    assert gateway.registry.urls() == {}
