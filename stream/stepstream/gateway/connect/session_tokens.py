"""Tokens of connections: any gateway with the signing key knows which ones another gateway has handed out."""

import secrets
import time
from collections.abc import Callable, Sequence

from stepstream.contract.ids import is_run_id, run_hash, run_id_at
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.wire.signing import SigningKey

# All gateways have one name: a worker that must avoid one of them reaches another by the same URL.
_GROUP = "stepstream"


def new_ulid(now_s: float) -> str:
    """Return a new ULID."""
    return run_id_at(int(now_s * 1_000), run_hash("", secrets.token_hex(16)))


class SessionTokens:
    """Hands out tokens, signed with the first key, and accepts for five minutes those that one of the keys signed."""

    def __init__(self, keys: Sequence[SigningKey] = (), now_s: Callable[[], float] = time.time) -> None:
        self._keys = keys or [SigningKey(secrets.token_hex(32))]
        self._now_s = now_s

    def start(self, endpoint: str) -> pb.StartResponse:
        """Return what a worker needs to connect at the URL `endpoint`."""
        id = new_ulid(self._now_s())
        session, sync = (self._keys[0].sign(_signed(kind, id), int(self._now_s())) for kind in ("session", "sync"))
        return pb.StartResponse(
            connection_id=id, gateway_endpoint=endpoint, gateway_group=_GROUP, session_token=session, sync_token=sync
        )

    def accept(self, id: str, tokens: pb.AuthData) -> bool:
        """Return whether a worker has the tokens of a connection."""
        given = (("session", tokens.session_token), ("sync", tokens.sync_token))
        return is_run_id(id) and all(self._is_signed(_signed(kind, id), token) for kind, token in given)

    def _is_signed(self, signed: bytes, token: str) -> bool:
        now_s = int(self._now_s())
        return any(key.verify(token, signed, now_s) for key in self._keys)


def _signed(kind: str, id: str) -> bytes:
    return f"connect {kind} {id} ".encode()
