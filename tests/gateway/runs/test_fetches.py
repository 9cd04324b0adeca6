"""Requests that the gateway makes for apps, as the bodies of steps."""

import json

from stepstream import Event
from stepstream.runtime.readmodel.usage import UsageView
from tests.gateway.runs.endpoint import FakeEndpoint, Scripted, hashed, op, ops, registered, returned, virtual

GO = Event("demo/go", {"n": 7})
URL = "https://model.test/v1"
FETCH = op("Gateway", "get", opts={"url": URL, "method": "PUT", "headers": {"x-a": "b"}, "body": "hi"})
ASK = {"url": URL, "format": "anthropic", "auth_key": "secret", "body": {"m": 1}}
INFER = op("AIGateway", "ask", opts={**ASK, "headers": {"x-my-header": "v", "content-type": "application/json"}})

ANSWER = {"text": "hello", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 5}}


async def test_any_status_of_a_fetch_is_a_result() -> None:
    """The step has the status, the headers and the text of the response."""
    endpoint = FakeEndpoint(ops(FETCH), returned(), fetch=Scripted(404, "gone", {"X-B": "c"}))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").status == "completed"
    (request,) = endpoint.requests
    assert (request.method, request.url, request.headers, request.body) == ("PUT", URL, {"X-A": "b"}, b"hi")
    data = {"status_code": 404, "headers": {"x-b": "c"}, "body": '"gone"'}
    assert endpoint.asked[-1].body["steps"] == {hashed("get"): {"data": data}}


async def test_a_model_is_asked_with_the_key_of_its_provider() -> None:
    """The memo is the answer of the provider, and the run has its tokens; neither that nor the history has the key."""
    endpoint = FakeEndpoint(ops(INFER), returned(), fetch=Scripted(200, ANSWER))
    async with virtual(endpoint) as engine:
        await engine.send(GO)
        assert engine.run("demo-f").usage == UsageView("claude", 3, 5, 0.0)
        assert "secret" not in repr(engine.history)
    (request,) = endpoint.requests
    named = {"Content-Type": "application/json", "X-My-Header": "v", "X-Api-Key": "secret"}
    assert (request.headers, json.loads(request.body)) == (named, {"m": 1})
    assert endpoint.asked[-1].body["steps"] == {hashed("ask"): {"data": ANSWER}}


async def test_an_error_of_a_provider_is_retried_and_then_caught() -> None:
    """Each attempt makes the request again; at last the code gets the error with the answer of the provider."""
    endpoint = FakeEndpoint(ops(INFER), returned(), fetch=[Scripted(529, {"busy": True})] * 2)
    async with virtual(endpoint, registered(retries=1)) as engine:
        await engine.send(GO)
        await engine.advance("1h")
        assert engine.run("demo-f").status == "completed"
    (memo,) = endpoint.asked[-1].body["steps"].values()
    assert (memo["error"]["name"], memo["error"]["data"]) == ("AIGatewayError", {"busy": True})
    assert len(endpoint.requests) == 2
