"""The form that sends an event: what was entered stays when it is refused, with the reason beside the field."""

import json
import secrets
from collections.abc import Mapping

import htpy as h

from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.pages.parts.fields import Refusal, area, line, other_reason
from stepstream.api.pages.parts.forms import post_form
from stepstream.contract.codec import EMPTY_OBJECT, Json, dump_json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import decode_event
from stepstream.contract.limits import EVENT_ID_CHARACTERS_MAX, EVENT_NAME_CHARACTERS_MAX

_FIELDS = ("name", "data", "id")
_EXAMPLE_CHARACTERS_MAX = 64 * 1024


def event_form(visit: Visit, action: str, refusal: Refusal, *, name: str = "", example: Json = None) -> h.Node:
    """Return the form, with a name and data to start from; None for visitors that may not act."""
    if not visit.may_operate:
        return None
    data = json.dumps(example if isinstance(example, dict) else {}, ensure_ascii=False, indent=2)
    if len(data) > _EXAMPLE_CHARACTERS_MAX:
        data = "{}"
    limits = {"name": str(EVENT_NAME_CHARACTERS_MAX), "id": str(EVENT_ID_CHARACTERS_MAX)}
    return post_form(
        visit,
        action,
        "Send an event",
        # The id of an event that is given none: sent twice, the form starts each function once.
        h.input(type="hidden", name="request", value=f"page-{secrets.token_hex(8)}"),
        other_reason(refusal, *_FIELDS),
        line(refusal, "event-name", "name", "Name", name, maxlength=limits["name"], required="required"),
        area(refusal, "event-data", "data", "Data (JSON object)", data),
        line(
            refusal, "event-id", "id", "Id, which starts each function once in 24 h (optional)", maxlength=limits["id"]
        ),
        h.button["Send"],
    )


async def send_entered(site: Site, form: Mapping[str, str]) -> str:
    """Send the event of a form and return its id; raise InvalidInput with the field that is wrong."""
    data = load_json(form.get("data", "").encode(), field="data") if form.get("data", "").strip() else EMPTY_OBJECT
    fields = {
        "name": form.get("name", "").strip(),
        "data": data,
        "id": form.get("id", "").strip() or form.get("request", ""),
    }
    if not fields["name"]:
        raise InvalidInput("give the name of the event", "name")
    (id,) = await site.engine.send([decode_event(bytes(dump_json(fields)), site.limits, strict=True)])
    return id
