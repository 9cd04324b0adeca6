"""Exchanges of official SDKs with a server, as they were captured: see captures/README.md."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("captures")
KEY = "signkey-test-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, in the capture `file`."""

    file: str
    fields: Mapping[str, Any]

    @property
    def is_call(self) -> bool:
        """Whether the server calls a function."""
        return self.fields["dir"] == "server->sdk" and isinstance(self.body, dict) and "ctx" in self.body

    @property
    def body(self) -> Any:
        """The body of the request as a JSON value."""
        return self.fields["body"]

    @property
    def answer(self) -> Any:
        """The body of the answer as a JSON value."""
        return self.fields["response"]

    @property
    def status(self) -> int:
        """The status of the answer."""
        return int(self.fields["status"])

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer."""
        return self.fields["response_headers"]  # type: ignore[no-any-return]

    @cached_property
    def answer_bytes(self) -> bytes:
        """The body of the answer as JSON.stringify writes it."""
        return json.dumps(self.answer, separators=(",", ":"), ensure_ascii=False).encode()


def read(name: str) -> list[Exchange]:
    """Return the exchanges of a capture."""
    return [Exchange(name, fields) for fields in json.loads((FOLDER / f"{name}.json").read_text("utf-8"))]


def names(pattern: str = "*") -> list[str]:
    """Return the names of captures that match a pattern."""
    found = sorted(path.stem for path in FOLDER.glob(f"{pattern}.json"))
    assert found, f"no capture is named {pattern}"
    return found


def all_calls() -> Iterator[Exchange]:
    """Yield the calls in all captures."""
    for name in names():
        yield from (exchange for exchange in read(name) if exchange.is_call)


def unwrapped(exchange: Exchange) -> tuple[int, Mapping[str, str], Any]:
    """Return the status, the headers and the body of an answer, those inside if it is streamed."""
    if exchange.status != 201:
        return exchange.status, exchange.headers, exchange.answer
    inner = exchange.answer
    body = json.loads(inner["body"]) if isinstance(inner["body"], str) else inner["body"]
    return inner["status"], {**exchange.headers, **inner.get("headers", {})}, body
