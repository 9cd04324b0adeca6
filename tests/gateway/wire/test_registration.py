"""Registrations of official SDKs are mapped to the triggers and the limits of the engine, or refused with a reason."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.functions import CancelTrigger, CronTrigger, EventTrigger, RunTimeouts, decode_function
from stepstream.contract.gates import Excess, GateRule
from stepstream.contract.limits import DAY_MS, HOUR_MS, MINUTE_MS
from stepstream.gateway.wire.registration import (
    FUNCTIONS_PER_APP_MAX,
    REGISTRATION_BYTES_MAX,
    AppRegistration,
    RemoteFunctionConfig,
    read_functions,
    read_in_band,
    read_registration,
)
from tests.gateway.exchanges import names, read

_URL = "http://127.0.0.1:3000/api/inngest?fnId=demo-f&stepId=step"
_SDKS = {"py": "py:v0.5.19", "js3": "js:v3.54.2", "js4": "js:v4.24.0", "go": "go:v0.16.0"}


def _bodies(sdk: str) -> list[Mapping[str, Any]]:
    """Return the out-of-band registrations in the captures of an SDK."""
    exchanges = [exchange for name in names(f"{sdk}-*-registration") for exchange in read(name)]
    return [exchange.body for exchange in exchanges if exchange.fields.get("path", "").startswith("/fn/register")]


def _captured(sdk: str) -> AppRegistration:
    return read_registration(json.dumps(_bodies(sdk)[0]).encode())


def _function(**fields: object) -> AppRegistration:
    """Return an app with one function that has these fields."""
    steps = {"step": {"id": "step", "runtime": {"type": "http", "url": _URL}}}
    body = {"appName": "demo", "functions": [{"id": "demo-f", "steps": steps, **fields}]}
    return read_registration(json.dumps(body).encode())


def _mapped(**fields: object) -> RemoteFunctionConfig:
    app = _function(**fields)
    assert not app.refused, app.refusal
    (function,) = app.functions
    return function


@pytest.mark.parametrize("sdk", _SDKS)
def test_registrations_of_all_sdks_are_read(sdk: str) -> None:
    """Every function of a captured registration is mapped."""
    for body in _bodies(sdk):
        app = read_registration(json.dumps(body).encode())
        assert (app.name, app.topic_name, app.sdk, app.version) == ("demo", "demo", _SDKS[sdk], "v1.2.3")
        assert app.url == body["url"]
        assert not app.refused
        assert {each.id for each in app.functions} == {each["id"] for each in body["functions"]}
        for function, sent in ((each, _sent(body, each.id)) for each in app.functions):
            step = sent["steps"]["step"]
            assert function.url == function.registered.endpoint == step["runtime"]["url"]
            assert function.registered.retries == step.get("retries", {"attempts": 4})["attempts"]
            assert (function.registered.sdk, function.registered.name) == (_SDKS[sdk], sent["name"])
            assert decode_function(encode(function.registered)) == function.registered


def _sent(body: Mapping[str, Any], id: str) -> Mapping[str, Any]:
    return next(each for each in body["functions"] if each["id"] == id)


@pytest.mark.parametrize("sdk", _SDKS)
def test_in_band_registrations_are_the_same(sdk: str) -> None:
    """The answer to a PUT that asks for an in-band registration has the same functions."""
    bodies = [
        exchange.answer
        for name in names(f"{sdk}-*-registration")
        for exchange in read(name)
        if exchange.fields.get("method") == "PUT" and "functions" in (exchange.answer or {})
    ]
    assert bodies
    for body in bodies:
        app = read_in_band(json.dumps(body).encode())
        assert (app.name, app.sdk, app.url) == ("demo", _SDKS[sdk], body["url"])
        assert len(app.functions) + len(app.refused) == len(body["functions"])


@pytest.mark.parametrize("sdk", ["py", "js3", "js4"])
def test_handlers_of_failures_are_started_by_the_engine(sdk: str) -> None:
    """The function that an SDK registers for `onFailure` belongs to the one whose failures it handles."""
    functions = {each.id: each.registered for each in _captured(sdk).functions}
    assert functions["demo-fn-err"].on_failure == "demo-fn-err-failure"
    assert functions["demo-fn-err-failure"].triggers == ()
    assert [each.id for each in functions.values() if each.on_failure] == ["demo-fn-err"]


def test_other_triggers_on_failures_are_events() -> None:
    """A trigger that matches the failures of several functions, or of one of another app, is on the engine's event."""
    condition = "event.data.function_id == 'shop-f'"
    for expression in (condition, "event.data.run_id != ''", ""):
        function = _mapped(triggers=[{"event": "inngest/function.failed", "expression": expression}])
        assert function.registered.triggers == (EventTrigger("stream/function.failed", expression),)


@pytest.mark.parametrize(("scope", "shown"), [("Fn", "function demo-f"), ("Account", "of namespace")])
def test_scopes_of_limits_are_read_as_go_writes_them(scope: str, shown: str) -> None:
    """The SDK for Go sends the names of its constants, also where the code states no scope."""
    (rule,) = _mapped(concurrency={"step": [{"limit": 1, "scope": scope, "hash": ""}]}).registered.gates
    assert shown in rule.name


@pytest.mark.parametrize("sdk", ["py", "js3", "js4"])
def test_every_option_that_the_engine_has_is_mapped(sdk: str) -> None:
    """The function with every option has all of them in the engine."""
    functions = {each.id: each.registered for each in _captured(sdk).functions}
    registered, rule = functions["demo-every-option"], "event.data.id == async.data.id"
    assert registered.priority == "event.data.p == 1 ? 100 : 0"
    assert registered.triggers == (
        EventTrigger("demo/opt", "event.data.a > 1"),
        CronTrigger("0 5 * * *", "Europe/Berlin", 30_000 if sdk == "py" else 0),
    )
    assert registered.retries == 7
    assert registered.timeouts == RunTimeouts(90_000, DAY_MS)
    assert registered.cancel_on[0] == CancelTrigger("demo/cancel", "", rule, HOUR_MS)
    assert registered.cancel_on[1:] == (() if sdk == "py" else (CancelTrigger("demo/cancel2", "", rule),))
    of = "function demo-every-option by event.data"
    key = "event.data.u"
    assert registered.gates == (
        GateRule(f"idempotency of {of}.id", 1, DAY_MS, key="event.data.id", excess=Excess.IDEMPOTENT),
        GateRule(f"debounce of {of}.u", 1, 5 * MINUTE_MS, key=key, excess=Excess.DEBOUNCED, most_ms=2 * HOUR_MS),
        GateRule(f"singleton of {of}.u", 1, key=key, excess=Excess.REPLACE, condition="(event.data.u) != false"),
        GateRule(f"throttle of {of}.u", 4, MINUTE_MS, 1, key),
        GateRule(f"step concurrency of {of}.u", 3, key=key, steps=True, work=True),
        GateRule("step concurrency of namespace by 'x'", 9, key="'x'", steps=True, work=True),
    )
    batch = GateRule("batch of function demo-batched by event.data.k", 1, 5_000, key="event.data.k", size=10)
    assert functions["demo-batched"].gates == (replace(batch, excess=Excess.BATCHED, condition="event.data.z"),)


@pytest.mark.parametrize(
    ("concurrency", "gates"),
    [
        (5, [("step concurrency of function demo-f", 5, True)]),
        (0, []),
        ([], []),
        ({"limit": 2}, [("step concurrency of function demo-f", 2, True)]),
        (
            {"fn": [{"limit": 1}], "step": [{"limit": 2}]},
            [("concurrency of function demo-f", 1, False), ("step concurrency of function demo-f", 2, True)],
        ),
    ],
)
def test_all_forms_of_concurrency_are_read(concurrency: object, gates: list[tuple[str, int, bool]]) -> None:
    """A number, a list, one limit, or limits on runs and on steps; 0 is no limit."""
    found = _mapped(concurrency=concurrency).registered.gates
    assert [(gate.name, gate.limit, gate.steps) for gate in found] == gates


def test_priority_without_a_queue_has_no_effect() -> None:
    """SDKs allow a priority for a function whose runs never wait for a limit; the engine has none there."""
    priority = {"run": "event.data.p"}
    assert _mapped(priority=priority).registered.priority == ""
    assert _mapped(priority=priority, throttle={"limit": 1, "period": "1m"}).registered.priority == "event.data.p"


def test_rate_limits_are_those_of_sdks() -> None:
    """A tenth of the runs of a rate limit may start at once, and a throttle of none lets one start."""
    rate = _mapped(rateLimit={"limit": 20, "period": "1h30m"}).registered.gates[0]
    assert (rate.limit, rate.period_ms, rate.burst, rate.excess) == (20, 90 * MINUTE_MS, 2, Excess.RATE_LIMITED)
    throttle = _mapped(THROTTLE={"limit": 0, "period": "1w"}).registered.gates[0]
    assert (throttle.limit, throttle.period_ms, throttle.burst) == (1, 7 * DAY_MS, 0)


@pytest.mark.parametrize(
    ("given", "retries"),
    [({}, 4), ({"retries": 3}, 3), ({"retries": {"attempts": 2}}, 2), ({"retries": 99}, 20), ({"retries": None}, 4)],
)
def test_retries_are_read_from_all_places(given: Mapping[str, object], retries: int) -> None:
    """Go also writes the number of retries beside the steps; it is four by default, and twenty at most."""
    assert _mapped(**given).registered.retries == retries


@pytest.mark.parametrize(
    ("cron", "trigger"),
    [
        ("*/5 * * * *", CronTrigger("*/5 * * * *")),
        ("TZ=America/New_York 0 9 * * MON", CronTrigger("0 9 * * MON", "America/New_York")),
        ("CRON_TZ=UTC @daily", CronTrigger("0 0 * * *")),
        (" @hourly ", CronTrigger("0 * * * *")),
    ],
)
def test_cron_expressions_have_their_time_zone(cron: str, trigger: CronTrigger) -> None:
    """The zone is in front of the fields, which may be a word."""
    assert _mapped(triggers=[{"cron": cron}]).registered.triggers == (trigger,)
    late = _mapped(triggers=[{"cron": cron, "jitter": "30s"}]).registered.triggers
    assert late == (replace(trigger, jitter_ms=30_000),)


def test_names_of_fields_are_matched_without_case() -> None:
    """Python writes appname, Go an empty Singleton, and other fields are unknown."""
    body = {"APPNAME": "demo", "deploy_type": "ping", "New": 1, "functions": [
        {"ID": "demo-f", "Singleton": None, "Steps": {"step": {"Runtime": {"URL": _URL}}}, "checkpoint": {}}
    ]}  # fmt: skip
    app = read_registration(json.dumps(body).encode())
    assert [function.id for function in app.functions] == ["demo-f"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"batchEvents": {"maxSize": 9, "timeout": "5s"}, "cancel": [{"event": "a"}]}, "batch= excludes cancel_on="),
        ({"priority": {"run": "1 +"}, "concurrency": 1}, "priority="),
        ({"triggers": [{"event": "demo/a", "expression": "event.data.a >"}]}, "on('demo/a')"),
        ({"triggers": [{"event": "x" * 256}]}, "1 to 255 characters"),
        ({"triggers": [{"event": ""}]}, "1 to 255 characters"),
        ({"triggers": [{"event": "a"}] * 11}, "at most 10 triggers"),
        ({"triggers": [{"cron": "* * *"}]}, "use 5 fields"),
        ({"triggers": [{"cron": "TZ=Mars/Base 0 5 * * *"}]}, "unknown time zone"),
        ({"cancel": [{"event": "a"}] * 6}, "at most 5 events"),
        ({"cancel": [{"event": "a", "timeout": "2026-01-01T00:00:00Z"}]}, "cancel.timeout: '2026"),
        ({"cancel": [{"event": "a", "if": "other.x"}]}, "'other' is unknown here"),
        ({"concurrency": [{"limit": 1, "scope": "world"}]}, "concurrency.scope: 'world'"),
        ({"concurrency": [{"limit": 1, "key": "'a'"}, {"limit": 2, "key": "'b'"}, {"limit": 3}]}, "at most 2 limits"),
        ({"concurrency": 10**9}, "1 to 1,000,000"),
        ({"concurrency": {"fn": 7}}, "Expected"),
        ({"throttle": {"limit": 1}}, "missing required field `period`"),
        ({"throttle": {"limit": 2**60, "period": "1h"}}, "1 to 1,000,000"),
        ({"throttle": {"limit": 1.5, "period": "1h"}}, "Expected `int`"),
        ({"rateLimit": {"limit": 1, "period": "soon"}}, "is not a duration"),
        ({"rateLimit": {"limit": 1, "period": "400d"}}, "366 days"),
        ({"singleton": {"mode": "maybe"}}, "'maybe' is not skip or cancel"),
        ({"timeouts": {"finish": "-1s"}}, "timeouts.finish"),
        ({"retries": -1}, "less than 0"),
        ({"idempotency": "1 +"}, "Idempotency"),
        ({"steps": {}}, "a function has one step"),
        ({"steps": {"step": {"runtime": {"url": "ftp://a/b"}}}}, "'ftp://a/b' is not a URL"),
        ({"steps": {"step": {"runtime": {"url": "http://[oops/"}}}}, "is not a URL"),
        ({"steps": {"step": {"runtime": {"url": f"http://a/{'x' * 3_000}"}}}}, "2,048 characters"),
        ({"id": "x" * 256}, "1 to 255 printable characters"),
    ],
    ids=range(29),
)
def test_what_cannot_be_mapped_is_refused_with_its_reason(fields: Mapping[str, object], reason: str) -> None:
    """A function that would behave differently is not registered, and the answer says why; others are registered."""
    app = _function(**fields)
    assert not app.functions
    assert reason in app.refusal
    assert app.refusal.startswith("function '")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[]", "use a JSON object"),
        (b'{"functions":[]}', "an app needs a name"),
        (b'{"appName":" ","functions":[]}', "an app needs a name"),
        (b'{"appName":"a\\nb","functions":[]}', "an app needs a name"),
        (b'{"appName":"\\ud800","functions":[]}', "not valid JSON"),
        (b'{"appName":7}', "Expected `str`"),
        (b'{"appName":"a","functions":{}}', "Expected `array`"),
        (b'{"appName":"a","functions":[7]}', "functions[0].id: a function needs an id"),
        (b'{"appName":"a","functions":[{}]}', "functions[0].id: a function needs an id"),
        (b"[" * 200 + b"]" * 200, "nested deeper"),
    ],
)
def test_other_body_is_refused(body: bytes, reason: str) -> None:
    """The reason names the field."""
    with pytest.raises(InvalidInput) as caught:
        read_registration(body)
    assert reason in str(caught.value)


def test_registrations_are_bounded() -> None:
    """A body, and the number of functions, have a limit; no two functions have the same id."""
    with pytest.raises(TooLarge):
        read_registration(b" " * (REGISTRATION_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        read_functions("demo", "", "", [{"id": str(n)} for n in range(FUNCTIONS_PER_APP_MAX + 1)])
    function = {"id": "demo-f", "steps": {"step": {"runtime": {"url": _URL}}}}
    with pytest.raises(InvalidInput, match="no other one has"):
        read_functions("demo", "", "", [function, function])


def test_app_has_a_name_that_kafka_allows() -> None:
    """A name that cannot be part of a topic is replaced by a similar one, which no other app has."""
    apps = [
        AppRegistration(name, "").topic_name
        for name in ("my-app.2", "My App!", "My App?", "Ünïcode", "日本", "x" * 300)
    ]
    assert apps[0] == "my-app.2"
    assert all(decode_function(encode({"id": "f", "app": app})) for app in apps)
    assert len(set(apps)) == len(apps)
    assert apps[1].startswith("My-App-")


def test_version_of_a_function_changes_with_its_configuration() -> None:
    """The version is the same for the same configuration, and another one for another release of the app."""
    first = _mapped(retries=1).registered.version
    assert first == _mapped(retries=1).registered.version
    assert first != _mapped(retries=2).registered.version
