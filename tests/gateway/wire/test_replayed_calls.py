"""Calls that official SDKs accepted are built again from what their code had answered before."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import INVOKED, EventRecord
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.gateway.wire.calls import CallState, call_headers, call_parts, function_uuid, step_url
from stepstream.gateway.wire.canonical import canonical
from stepstream.gateway.wire.internal_events import event_json, own_name
from stepstream.gateway.wire.memos import memo_json
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.exchanges import KEY, Exchange, all_calls, names, read, unwrapped

_KINDS = {
    "Sleep": StepKind.SLEEP,
    "WaitForEvent": StepKind.WAIT,
    "WaitForSignal": StepKind.SIGNAL,
    "InvokeFunction": StepKind.INVOKE,
}
# Calls without some of the fields, by which the captures probe what SDKs need.
_ODD = ("-probe-bodies", "-probe-no-fn-id", "-probe-no-qi-id", "-probe-no-version-header")
_CALLS = [exchange for exchange in all_calls() if not exchange.file.endswith(_ODD)]


def _event(fields: Mapping[str, Any]) -> EventRecord:
    name = own_name(fields["name"])
    data = {**fields["data"]}
    if name == INVOKED:
        inner = data.pop("_inngest")
        return EventRecord(name, Raw(encode(data)), inner["correlation_id"].replace(".", ":"), fields["ts"])
    if name.startswith("stream/"):
        data["status"] = data.pop("_inngest")["status"].lower()
        data["raw_error"] = data["error"]
        data["error"] = {"name": "Error", "message": "cut", "code": ""}
    return EventRecord(name, Raw(encode(data)), fields["id"], fields["ts"])


def _kinds(file: str) -> Mapping[str, StepKind]:
    """Return the kinds of all steps in a capture, by their hashes."""
    answers = [unwrapped(exchange)[2] for exchange in read(file) if exchange.is_call]
    ops = [op for answer in answers if isinstance(answer, list) for op in answer if isinstance(op, dict)]
    return {op["id"]: _KINDS.get(op["op"], StepKind.RUN) for op in ops}


def _outcome(kind: StepKind, memo: Any) -> tuple[Outcome, str]:
    """Return the result of a step as the engine stores it, and the name of its signal."""
    match kind, memo:
        case StepKind.SLEEP, None:
            return Value(), ""
        case _, None:
            return TimedOut(), ""
        case StepKind.WAIT, _:
            return Value(Raw(encode(_event(memo)))), ""
        case StepKind.SIGNAL, {"data": {"signal": signal, "data": data}}:
            return Value(Raw(encode(data))), signal
        case _, {"error": error}:
            return Failure(ErrorInfo("Error", "cut"), Raw(encode(error))), ""
        case _:
            return Value(Raw(encode(memo["data"]))), ""


def _memo(kind: StepKind, memo: Any) -> Raw:
    outcome, signal = _outcome(kind, memo)
    return memo_json(kind, outcome, signal=signal)


def _state(exchange: Exchange) -> CallState:
    body, context = exchange.body, exchange.body["ctx"]
    kinds, function = _kinds(exchange.file), exchange.fields["url"].partition("fnId=")[2].partition("&")[0]
    events = body["events"] or [body["event"]]
    return CallState(
        context["run_id"],
        function,
        tuple(event_json(_event(event), function) for event in events),
        {step: _memo(kinds.get(step, StepKind.RUN), body["steps"].get(step)) for step in context["stack"]["stack"]},
        step=exchange.fields["url"].partition("stepId=")[2],
        attempt=context["attempt"],
        max_attempts=context["max_attempts"],
        version=body["version"],
        parallel=context["disable_immediate_execution"],
        generation=context["generation_id"],
        request_id=context["request_id"],
        job_id=context["job_id"],
        queue_item=context["qi_id"],
        defers={step: defer["abortable"] for step, defer in body["defers"].items()},
        use_api=body["use_api"],
    )


def _bare(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event without what the fake server of the captures left out or repeated."""
    fields = {name: value for name, value in event.items() if name not in ("id", "user")}
    data = {name: value for name, value in fields["data"].items() if name not in ("events", "_inngest")}
    if isinstance(data.get("event"), dict):
        data["event"] = _bare(data["event"])
    if isinstance(data.get("error"), dict):
        data["error"] = {name: value for name, value in data["error"].items() if name not in ("error", "code")}
    return {**fields, "data": data}


def test_calls_equal_those_that_sdks_accepted() -> None:
    """Each field of a call, and each memo in the order of the steps, is as the SDKs had accepted it."""
    assert len(_CALLS) > 150
    for exchange in _CALLS:
        built, sent = json.loads(b"".join(call_parts(_state(exchange)))), json.loads(json.dumps(exchange.body))
        assert built["ctx"].pop("fn_id") == function_uuid(_state(exchange).function)
        del sent["ctx"]["fn_id"]
        # SDKs read it from the header.
        del sent["ctx"]["generation_id"]
        for body in (built, sent):
            body["event"], body["events"] = _bare(body["event"]), [_bare(event) for event in body["events"]]
            body["steps"] = {
                step: _bare(memo) if memo and "name" in memo else memo for step, memo in body["steps"].items()
            }
        assert built == sent, exchange.file
        assert list(built["ctx"]["stack"]["stack"]) == exchange.body["ctx"]["stack"]["stack"]


def test_calls_are_canonical() -> None:
    """The parts of a body make canonical JSON together."""
    for exchange in _CALLS:
        body = b"".join(call_parts(_state(exchange)))
        assert body == canonical(json.loads(body))


def test_urls_and_headers_equal_those_that_sdks_accepted() -> None:
    """The URL that an app registered leads to a step, and the headers repeat what the body says."""
    for exchange in _CALLS:
        url, step = exchange.fields["url"], _state(exchange).step
        sent = exchange.fields["headers"]
        assert step_url(url.replace(f"stepId={step}", "stepId=step"), step) == url
        headers = {name.lower(): value for name, value in call_headers(_state(exchange), "dev").items()}
        assert {**headers, "x-inngest-server-kind": sent["x-inngest-server-kind"]} == {
            name: value for name, value in sent.items() if name != "x-inngest-signature"
        }


@pytest.mark.parametrize("name", names("*-cloud-three-steps"))
def test_calls_are_signed_as_sdks_accepted(name: str) -> None:
    """The signature over the canonical body of a call is the one that the SDK accepted."""
    for exchange in (exchange for exchange in read(name) if exchange.is_call and exchange.status < 300):
        header = exchange.fields["headers"]["x-inngest-signature"]
        t = int(header.partition("t=")[2].partition("&")[0])
        assert SigningKey(KEY).sign(canonical(exchange.body), t) == header


@pytest.mark.parametrize("name", ["js3-cloud-three-steps", "js4-cloud-three-steps"])
def test_signatures_of_answers_are_verified(name: str) -> None:
    """An answer is signed over the bytes that were sent, for five minutes."""
    key = SigningKey(KEY)
    for exchange in (exchange for exchange in read(name) if exchange.is_call):
        header = exchange.headers["x-inngest-signature"]
        t = int(header.partition("t=")[2].partition("&")[0])
        assert key.verify(header, exchange.answer_bytes, t + 300)
        assert key.verify(header, exchange.answer_bytes + b"\n", t)
        assert not key.verify(header, exchange.answer_bytes, t + 301)
        assert not key.verify(header, exchange.answer_bytes + b" ", t)


def test_bearers_of_all_sdks_are_accepted() -> None:
    """Requests of SDKs in cloud mode are authorized, whichever form of the key they send."""
    tokens = {
        exchange.fields["headers"].get("authorization", "")
        for name in [*names("*-cloud-*"), "go-checkpointing"]
        for exchange in read(name)
        if exchange.fields["dir"] == "sdk->server" and not exchange.fields["path"].startswith("/e/")
    }
    assert len(tokens) == 3
    assert all(SigningKey(KEY).accepts(token) for token in tokens)
