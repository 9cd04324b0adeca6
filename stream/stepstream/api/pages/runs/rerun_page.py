"""The page that reruns a run with other data: from its start, from a step, or from its failure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.parts.components import facts, note, run_link, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal, area, entered_reason, line, other_reason
from stepstream.api.pages.parts.forms import FORM_TOKEN, post_form
from stepstream.api.pages.parts.json_tree import snippet
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.runs.run_forms import FROM_FAILURE, request_fields, rerun_url, stopped_label
from stepstream.api.pages.runs.run_page import NO_RUN, RERUN
from stepstream.contract.codec import NULL, Raw, dump_json, load_json
from stepstream.contract.commands import Memo
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REASON_CHARACTERS_MAX, REQUEST_ID_CHARACTERS_MAX
from stepstream.contract.outcomes import Value
from stepstream.contract.text.wording import counted
from stepstream.runtime.readmodel.tables.recorded import RecordedRun
from stepstream.runtime.reruns import RerunOptions, copied_memos, is_same_json, rerun_request

_EDITABLE_BYTES_MAX = 64 * 1024
_LISTED_MAX = 200
_EDITED_MAX = 20
_RESULT = "result-"


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run to rerun: from the step with this id (empty: from its start), and the results that are taken over."""

    run: RecordedRun
    origin: str
    step: str
    memos: Sequence[Memo]

    @property
    def title(self) -> str:
        """What the form does."""
        if self.origin == FROM_FAILURE:
            return stopped_label(self.run.status)
        return f"Rerun from step {self.step}" if self.step else "Rerun the run"


async def show_rerun(site: Site, visit: Visit) -> Response:
    """Answer with the form that reruns a run; `from` is a step or `failure`, each `edit` a step with other result."""
    edited = visit.request.query_params.getlist("edit")
    return await _page(site, visit, await _plan(site, visit, visit.param("from")), edited, ACCEPTED)


async def rerun(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Rerun a run; lead to the new run, or show the form again with what is wrong."""
    plan = await _plan(site, visit, form.get("from", ""))
    try:
        request = rerun_request(plan.run, _options(visit, plan, form), site.limits)
    except InvalidInput as error:
        field = error.field.replace("results.", _RESULT)
        edited = [name.removeprefix(_RESULT) for name in form if name.startswith(_RESULT)]
        return await _page(site, visit, plan, edited, Refusal("", form, field, error.reason))
    new_id = await site.engine.operator.rerun(request)
    return see_done(visit, url("runs", new_id), RERUN)


async def _plan(site: Site, visit: Visit, origin: str) -> _Plan:
    if not visit.may_operate:
        raise PageError(403, "You may read this page only; log in with the API key to act.")
    run = await site.runs.queries.recorded(visit.request.path_params["run_id"])
    if run is None:
        raise PageError(404, NO_RUN)
    is_failure = origin == FROM_FAILURE
    step, memos = copied_memos(run, "" if is_failure else origin, from_failure=is_failure)
    return _Plan(run, origin, dict(run.steps).get(step, ""), memos)


def _options(visit: Visit, plan: _Plan, form: Mapping[str, str]) -> RerunOptions:
    """Return what a form asks for; a field whose value has not changed is as if it were missing."""
    why = entered_reason(form)
    data = _edited(form["data"], plan.run.events[0].data, "data") if "data" in form else None
    if data is not None and not isinstance(load_json(data), dict):
        raise InvalidInput("expected a JSON object", "data")
    originals = {memo.step: _value(memo) for memo in plan.memos}
    results: dict[str, Raw] = {}
    for name, written in form.items():
        if name.startswith(_RESULT):
            step = name.removeprefix(_RESULT)
            if (result := _edited(written, originals.get(step), name)) is not None:
                results[step] = result
    is_failure = plan.origin == FROM_FAILURE
    # The same form with other values is another request.
    parts = [plan.origin, *(f"{name}\0{value}" for name, value in sorted(form.items()) if name != FORM_TOKEN)]
    request = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:REQUEST_ID_CHARACTERS_MAX]
    return RerunOptions(request, "" if is_failure else plan.origin, is_failure, data, results, visit.user, why)


def _edited(written: str, original: Raw | None, field: str) -> Raw | None:
    """Return a value as canonical JSON; None if it is the original one, compared as JSON text: 1 is not true."""
    value = dump_json(load_json(written.encode(), field=field))
    return None if original is not None and is_same_json(original, value) else value


def _value(memo: Memo) -> Raw | None:
    return memo.outcome.data if isinstance(memo.outcome, Value) else None


async def _page(site: Site, visit: Visit, plan: _Plan, edited: Sequence[str], refusal: Refusal) -> Response:
    run, title = plan.run, plan.title
    shown = [memo for memo in plan.memos if memo.step in edited][:_EDITED_MAX]
    names = ["data", "why", *(f"{_RESULT}{memo.step}" for memo in shown)]
    content = [
        h.h1[text(title)],
        facts(
            [
                ("Run", [run_link(run.run_id, whole=True), " of ", text(run.function)]),
                ("Results taken over", counted(len(plan.memos), "step") if plan.memos else "none"),
            ]
        ),
        _memo_list(plan, [memo.step for memo in shown]),
        _other_forms(plan),
        post_form(
            visit,
            url("runs", run.run_id, "rerun"),
            "Rerun",
            request_fields(plan.origin),
            other_reason(refusal, *names),
            _value_field(refusal, "data", "Data of the event", run.events[0].data),
            [
                _value_field(refusal, f"{_RESULT}{memo.step}", ["Result of step ", text(memo.id)], _value(memo) or NULL)
                for memo in shown
            ],
            line(refusal, "why", "why", "Reason", maxlength=str(REASON_CHARACTERS_MAX)),
            h.button[text(title)],
            h.a(href=url("runs", run.run_id))["Back to the run"],
        ),
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, title, "Runs", counts, *content), 400 if refusal.reason else 200)


def _other_forms(plan: _Plan) -> h.Element:
    """Return links to the forms that rerun the run from elsewhere, in which other results can be edited."""
    run, stopped = plan.run, stopped_label(plan.run.status)
    links = [("", "the whole run"), *([(FROM_FAILURE, stopped.removeprefix("Rerun "))] if stopped else [])]
    steps = [(step, ["from step ", text(id)]) for step, id in run.steps[:_LISTED_MAX] if step != plan.origin]
    return h.details(open=not plan.origin)[
        h.summary["Rerun from another step: the results before it are taken over and can be edited"],
        h.ul[
            [
                h.li[h.a(href=rerun_url(run.run_id, origin))["Rerun ", label]]
                for origin, label in [*links, *steps]
                if origin != plan.origin
            ],
            h.li[f"{len(run.steps) - _LISTED_MAX:,} more steps, on the page of the run"]
            if len(run.steps) > _LISTED_MAX
            else None,
        ],
    ]


def _value_field(refusal: Refusal, name: str, label: h.Node, value: Raw) -> h.Element:
    size = len(bytes(value))
    if size > _EDITABLE_BYTES_MAX and name not in refusal.entered:
        return note([label, f" has {size:,} bytes; to change it, use ", h.code["stepstream runs rerun"], "."])
    return area(refusal, name, name, label, json.dumps(load_json(value, own=True), ensure_ascii=False, indent=2))


def _shown_value(value: Raw | None) -> h.Node:
    """Return the beginning of a result; of a large one its size, because reading many of them would take long."""
    if value is None:
        return "failed or timed out"
    size = len(bytes(value))
    return f"{size:,} bytes" if size > _EDITABLE_BYTES_MAX else h.code[text(snippet(load_json(value, own=True)))]


def _memo_list(plan: _Plan, edited: Sequence[str]) -> h.Element | None:
    """Return the results that are taken over, each with a link that lets its value be edited."""
    if not plan.memos:
        return None
    rest = len(plan.memos) - _LISTED_MAX

    def row(memo: Memo) -> h.Element:
        edit = rerun_url(plan.run.run_id, plan.origin, (*edited, memo.step))
        return h.li[
            text(memo.id),
            " ",
            _shown_value(_value(memo)),
            " ",
            None if memo.step in edited else h.a(href=edit)["edit the result of ", text(memo.id)],
        ]

    return h.details(open=True)[
        h.summary["Results that are taken over"],
        h.ul[[row(memo) for memo in plan.memos[:_LISTED_MAX]], h.li[f"{rest:,} more"] if rest > 0 else None],
    ]
