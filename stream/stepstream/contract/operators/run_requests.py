"""Requests to runs: what a step accepts, the signal that carries a request, and the step that has the reply."""

import re

import msgspec

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REQUEST_ID_CHARACTERS_MAX

_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{REQUEST_ID_CHARACTERS_MAX}}}")


class AcceptedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a step accepts: `form` is the JSON schema of the data of a request, or null for any data."""

    form: Raw = NULL


class RunRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request, as the data of its signal: its `id` in the run, who sent it (`by`), and when (`at`, Unix ms)."""

    id: str
    data: Raw = NULL
    by: str = ""
    at: int = 0


_decode = msgspec.json.Decoder(RunRequest).decode
# How the names of these signals start.
REQUEST_SIGNALS = "request/"


def request_signal(run_id: str, step: str) -> str:
    """Return the name of the signal that carries a request to the step of a run: the step takes one."""
    return f"{REQUEST_SIGNALS}{run_id}/{step}"


def reply_step_id(name: str, request_id: str) -> str:
    """Return the id of the step whose result is the reply to a request."""
    return f"{name}/reply/{request_id}"


def check_request_id(id: str) -> str:
    """Return the id of a request; raise InvalidInput unless it is one."""
    if not _ID.fullmatch(id):
        raise InvalidInput(
            f"use 1 to {REQUEST_ID_CHARACTERS_MAX} of a-z, A-Z, 0-9, '.', '_', ':' and '-'", "Idempotency-Key"
        )
    return id


def request_start(id: str) -> str:
    """Return how the JSON of a request with this id starts: no id needs an escape."""
    return f'{{"id":"{id}",'


def encode_request(request: RunRequest) -> Raw:
    """Return a request as the data of its signal."""
    return Raw(encode(request))


def decode_request(data: Raw) -> RunRequest:
    """Return the request in the data of a signal; raise msgspec.ValidationError for anything else."""
    return _decode(data)
