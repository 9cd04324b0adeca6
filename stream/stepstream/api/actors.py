"""Who sends a request that changes runs, for the history of the runs."""

from collections.abc import Mapping

from stepstream.contract.limits import ACTOR_CHARACTERS_MAX

_WITH_KEY, _LOCAL = "API key", "local"


def is_person(actor: str) -> bool:
    """Return whether an actor is a name, and not any client with the key or any program of this machine."""
    return actor not in (_WITH_KEY, _LOCAL)


def actor_of(headers: Mapping[str, str], user_header: str, *, has_key: bool) -> str:
    """Return the user of a request, as a trusted proxy states it in `user_header` (empty: there is no such proxy).

    Without a user it is any client that has the API key, or a program on this machine if there is no key.
    """
    user = headers.get(user_header.lower(), "").strip() if user_header else ""
    return user[:ACTOR_CHARACTERS_MAX] or (_WITH_KEY if has_key else _LOCAL)
