"""The `meta` of an event: what SDKs send beside its data, such as the sessions to which the event belongs."""

from stepstream.contract.codec import NULL, Json, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput

_SESSIONS, _PROPAGATED = "sessions", "propagated_sessions"


def read_meta(raw: Raw, field: str = "meta") -> Raw:
    """Return what is stored of the `meta` of an event or an invoke; raise InvalidInput unless it is an object or null.

    An SDK sends the sessions of the run that sends the event as `propagated_sessions`. Those in `sessions` take their
    place, a null removes one, and null instead of an object removes all.
    """
    meta = load_json(raw, field=field)
    if meta is None:
        return NULL
    if not isinstance(meta, dict):
        raise InvalidInput("use a JSON object", field)
    if _SESSIONS not in meta and _PROPAGATED not in meta:
        return raw.copy()
    sessions, propagated = meta.pop(_SESSIONS, {}), meta.pop(_PROPAGATED, {})
    if isinstance(sessions, dict):
        inherited = propagated if isinstance(propagated, dict) else {}
        left: Json = {name: value for name, value in {**inherited, **sessions}.items() if value is not None}
        if left:
            meta[_SESSIONS] = left
    return Raw(encode(meta)) if meta else NULL
