"""The page of a step that waits for a request: the schema of its data, and the form that sends one."""

import json
import secrets
from collections.abc import Mapping

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import at, facts, function_link, note, run_link, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal, other_reason
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.parts.schema_form import (
    SchemaField,
    entered_values,
    input_names,
    input_of,
    schema_fields,
    schema_inputs,
)
from stepstream.contract.codec import dump_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.limits import REQUEST_DATA_BYTES_MAX
from stepstream.contract.operators.run_requests import check_request_id
from stepstream.runtime.readmodel.tables.run_requests import AcceptingStep
from stepstream.runtime.requests import RequestRef, RunRequests
from stepstream.runtime.schema_check import check_schema

_SCHEMA_CHARACTERS_MAX = 64 * 1024
# The field with the id of the request: a form that is sent twice sends one request.
_ID = "request"


async def show_request(site: Site, visit: Visit, refusal: Refusal = ACCEPTED) -> Response:
    """Answer with the page; with what was wrong in its form, if it was refused."""
    asked = await _found(site, visit)
    content = [
        h.h1["Request ", text(asked.name)],
        facts(
            [
                ("Function", function_link(asked.function)),
                ("Run", run_link(asked.run_id, whole=True)),
                ("Waits since", at(asked.since)),
                ("Until", at(asked.until)),
            ]
        ),
        _form(visit, asked, refusal) if asked.is_open else note("The step does not wait for a request any longer."),
        h.p[h.a(href=url("waiting", query=[("kind", "requests")]))["All requests that runs wait for"]],
    ]
    counts = await site.runs.queries.counts()
    page = document(visit, f"Request {asked.name}", "Waiting", counts, *content)
    return html(page, 400 if refusal.reason else 200)


async def send_request(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Send the request of a form, and lead to the run; or show the form again with what is wrong."""
    asked = await _found(site, visit)
    fields = _fields(asked)
    try:
        values = entered_values(fields, form)
        if asked.form is not None:
            check_schema(asked.form, values)
        data = dump_json(values)
        if len(bytes(data)) > REQUEST_DATA_BYTES_MAX:
            raise TooLarge(f"the data has {len(bytes(data)):,} bytes; at most {REQUEST_DATA_BYTES_MAX:,} are allowed")
        ref = RequestRef(asked.run_id, asked.name, check_request_id(form.get(_ID, "")))
        requests = RunRequests(site.engine.signal, site.runs.queries, site.streams.changes, site.now_ms)
        # The reply is on the page of the run.
        await requests.ask(ref, data, visit.user, 0)
    except InvalidInput as error:
        return await show_request(site, visit, Refusal("", form, input_of(fields, error.field), error.reason))
    return see_done(visit, url("runs", asked.run_id), "requested")


async def _found(site: Site, visit: Visit) -> AcceptingStep:
    params = visit.request.path_params
    if (asked := await site.runs.queries.accepting(params["run_id"], params["step"])) is None:
        raise PageError(404, "There is no such request. Its run may have been dropped after its retention.")
    return asked


def _fields(asked: AcceptingStep) -> list[SchemaField] | None:
    """Return a field for each value of the data; None if it is entered as JSON, as any data is without a schema."""
    return None if asked.form is None else schema_fields(asked.form)


def _form(visit: Visit, asked: AcceptingStep, refusal: Refusal) -> h.Node:
    fields = _fields(asked)
    schema = json.dumps(asked.form, ensure_ascii=False, indent=2)
    return [
        post_form(
            visit,
            url("requests", asked.run_id, asked.step),
            "Send the request",
            h.input(type="hidden", name=_ID, value=refusal.entered.get(_ID) or f"page-{secrets.token_hex(8)}"),
            other_reason(refusal, *input_names(fields)),
            schema_inputs(fields, "request", refusal),
            h.button["Send"],
        ),
        h.details[h.summary["Schema of the data"], h.pre[text(schema, _SCHEMA_CHARACTERS_MAX)]]
        if asked.form is not None
        else h.p(".hint")["The step accepts any data."],
    ]
