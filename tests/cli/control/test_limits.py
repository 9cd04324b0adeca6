"""The commands `stepstream limits`: what they send, and what they print."""

import json
from typing import Any

import pytest

from tests.cli.refusals import invoke

LIMIT = {
    "name": "openai",
    "key": "a",
    "limit": 5,
    "period_ms": 0,
    "burst": 0,
    "in_use": 5,
    "waiting": 2,
    "since": 1_767_225_600_000,
    "next_start": 0,
    "holders": ["HOLDER"],
    "waiters": ["WAITER"],
    "place": 0,
    "paused": True,
}
CHANGE = {"at": 1_767_225_600_000, "action": "set", "by": "ann", "why": "new quota"}
CHANGE |= {"override": {"limit": 5, "period_ms": 60_000, "burst": 2, "until": 1_767_225_660_000}}
CHANGED = {"name": "openai", "key": "", "setting": {"changes": [CHANGE]}}


class Engine:
    """Answers every request in the same way, and records what was sent."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.sent: list[tuple[str, str, Any]] = []

    def __call__(self, method: str, url: str, _headers: object, data: bytes | None) -> tuple[int, bytes]:
        """Record a request."""
        self.sent.append((method, url.partition("8288")[2], json.loads(data) if data else None))
        return 200, json.dumps(self.answer).encode()


def engine(monkeypatch: pytest.MonkeyPatch, answer: object) -> Engine:
    """Let an engine give one answer to every request."""
    made = Engine(answer)
    monkeypatch.setattr("stepstream.cli.client._exchange", made)
    return made


def test_the_list_has_uses_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who changed a limit and why, what is missing, and how to list the rest."""
    answer = {"limits": [LIMIT], "changed": [CHANGED], "missing": [3], "next": '["openai", "a"]'}
    made = engine(monkeypatch, answer)
    printed = invoke("limits", "list", "openai").stdout
    assert made.sent == [("GET", "/v1/limits?name=openai&after=&limit=50", None)]
    assert "5 of 5 (paused)" in printed
    assert "set 5 in 1m 0s, burst 2 until 20" in printed
    assert "new quota" in printed
    assert "shards that did not answer: 3" in printed
    assert """there are more: add --after '["openai", "a"]'""" in printed


def test_one_limit_lists_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that hold it and those that wait; one that nothing uses says so."""
    made = engine(monkeypatch, {"limit": LIMIT, "changed": [CHANGED]})
    printed = invoke("limits", "show", "open/ai", "--key", "a").stdout
    assert made.sent == [("GET", "/v1/limits/open%2Fai?key=a", None)]
    assert [word in printed for word in ("HOLDER", "WAITER", "5 of 5 (paused), 2 waiting", "ann")] == [True] * 4
    engine(monkeypatch, {"limit": None, "changed": []})
    assert invoke("limits", "show", "openai").stdout == "no run holds it or waits for it\n"


def test_commands_change_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sends one request; a new number needs a reason."""
    made = engine(monkeypatch, {"changed": True})
    refused = invoke("limits", "set", "openai", "--limit", "5")
    assert (refused.exit_code, "--why" in refused.stderr, made.sent) == (2, True, [])
    numbers = ("--limit", "5", "--period", "1m", "--until", "2h", "--why", "slow")
    assert invoke("limits", "set", "openai", *numbers).stdout == "changed\n"
    assert invoke("limits", "pause", "openai", "--key", "a").stdout == "changed\n"
    assert invoke("limits", "resume", "openai", "--json").stdout == '{"changed": true}\n'
    invoke("limits", "reset", "openai", "--why", "done")
    set_body = {"limit": 5, "period": "1m", "burst": None, "until": "2h", "why": "slow"}
    assert made.sent == [
        ("PUT", "/v1/limits/openai?key=", set_body),
        ("PUT", "/v1/limits/openai?key=a", {"paused": True, "until": "", "why": ""}),
        ("PUT", "/v1/limits/openai?key=", {"paused": False, "why": ""}),
        ("DELETE", "/v1/limits/openai?key=&why=done", None),
    ]
