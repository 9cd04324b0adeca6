"""The form that sends an event: what was entered stays when it is refused, with the reason beside the field."""

import json
import secrets
from collections.abc import Mapping, Sequence

import htpy as h

from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.pages.parts.fields import Refusal, area, line, other_reason
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.parts.schema_form import entered_values, input_names, input_of, schema_fields, schema_inputs
from stepstream.contract.codec import EMPTY_OBJECT, Json, dump_json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import decode_event
from stepstream.contract.limits import EVENT_ID_CHARACTERS_MAX, EVENT_NAME_CHARACTERS_MAX
from stepstream.runtime.schema_check import check_schema

_FIELDS = ("name", "data", "id")
# The field of the `meta` of an event that says who sent it by a form.
SENDER = "by"
_EXAMPLE_CHARACTERS_MAX = 64 * 1024


def event_form(visit: Visit, action: str, refusal: Refusal, *, name: str = "", example: Json = None) -> h.Node:
    """Return the form, with a name and data to start from; None for visitors that may not act."""
    if not visit.may_operate:
        return None
    data = json.dumps(example if isinstance(example, dict) else {}, ensure_ascii=False, indent=2)
    if len(data) > _EXAMPLE_CHARACTERS_MAX:
        data = "{}"
    return post_form(
        visit,
        action,
        "Send an event",
        _request(),
        other_reason(refusal, *_FIELDS),
        _name_line(refusal, name),
        area(refusal, "event-data", "data", "Data (JSON object)", data),
        _id_line(refusal),
        h.button["Send"],
    )


def model_form(
    visit: Visit, action: str, refusal: Refusal, schema: Json, names: Sequence[str], example: Mapping[str, Json]
) -> h.Node:
    """Return the form of an event whose data has a JSON schema; `names` are events, and `example` the latest one."""
    fields = schema_fields(schema)
    latest, named = example.get("data"), len(names) == 1 and not names[0].endswith("*")
    if len(bytes(dump_json(latest))) > _EXAMPLE_CHARACTERS_MAX:
        latest = None
    name = str(example.get("name") or names[0].rstrip("*"))
    return post_form(
        visit,
        action,
        "Send an event",
        _request(),
        other_reason(refusal, *([] if named else ["name"]), "id", *input_names(fields)),
        h.input(type="hidden", name="name", value=names[0]) if named else _name_line(refusal, name),
        schema_inputs(fields, "event", refusal, latest),
        _id_line(refusal),
        h.button["Start"],
    )


async def send_values(site: Site, visit: Visit, form: Mapping[str, str], schema: Json) -> str:
    """Send the event of a model_form and return its id; raise InvalidInput with the field that is wrong."""
    fields = schema_fields(schema)
    try:
        check_schema(schema, values := entered_values(fields, form))
    except InvalidInput as error:
        raise InvalidInput(error.reason, input_of(fields, error.field)) from None
    return await send_entered(site, visit, {**form, "data": bytes(dump_json(values)).decode()})


def _request() -> h.VoidElement:
    # The id of an event that is given none: sent twice, the form starts each function once.
    return h.input(type="hidden", name="request", value=f"page-{secrets.token_hex(8)}")


def _name_line(refusal: Refusal, name: str) -> h.Element:
    limit = str(EVENT_NAME_CHARACTERS_MAX)
    return line(refusal, "event-name", "name", "Name", name, maxlength=limit, required="required")


def _id_line(refusal: Refusal) -> h.Element:
    label = "Event id (optional); the same id does not start a function twice in 24 h"
    return line(refusal, "event-id", "id", label, maxlength=str(EVENT_ID_CHARACTERS_MAX))


async def send_entered(site: Site, visit: Visit, form: Mapping[str, str]) -> str:
    """Send the event of a form and return its id; raise InvalidInput with the field that is wrong.

    Its `meta` says who sends it.
    """
    data = load_json(form.get("data", "").encode(), field="data") if form.get("data", "").strip() else EMPTY_OBJECT
    fields = {
        "name": form.get("name", "").strip(),
        "data": data,
        "id": form.get("id", "").strip() or form.get("request", ""),
        "meta": {SENDER: visit.user},
    }
    if not fields["name"]:
        raise InvalidInput("give the name of the event", "name")
    event = decode_event(bytes(dump_json(fields)), site.limits.event_bytes_max, strict=True)
    (id,) = await site.engine.send([event])
    return id
