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
from stepstream.api.pages.runs.run_forms import FROM_FAILURE, request_fields, stopped_label
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
# A result that was entered, of a step that would run again; it is kept for a change of mind.
_UNUSED = "unused-"
# The buttons that show the form again: with the result of one more step, or from elsewhere.
_EDIT, _TO = "edit", "to"
_FORM = "rerun"


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
        return f"Rerun from step {self.step}" if self.step else "Rerun from the start"


async def show_rerun(site: Site, visit: Visit) -> Response:
    """Answer with the form that reruns a run; `from` is a step or `failure`."""
    return await _page(site, visit, await _plan(site, visit, visit.param("from")), ACCEPTED)


async def rerun(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Rerun a run; lead to the new run, or show the form again with what is wrong, or as one of its buttons asks."""
    plan = await _plan(site, visit, form.get(_TO, form.get("from", "")))
    if _EDIT in form or _TO in form:
        return await _page(site, visit, plan, Refusal("", _entered(form)), form.get(_EDIT, ""))
    try:
        request = rerun_request(plan.run, _options(visit, plan, form), site.limits)
    except InvalidInput as error:
        field = error.field.replace("results.", _RESULT)
        return await _page(site, visit, plan, Refusal("", _entered(form), field, error.reason))
    new_id = await site.engine.operator.rerun(request)
    return see_done(visit, url("runs", new_id), RERUN)


def _entered(form: Mapping[str, str]) -> Mapping[str, str]:
    """Return what was entered, with the results that the form kept although they were not used."""
    return {f"{_RESULT}{name.removeprefix(_UNUSED)}" if name.startswith(_UNUSED) else name: form[name] for name in form}


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


async def _page(site: Site, visit: Visit, plan: _Plan, refusal: Refusal, edit: str = "") -> Response:
    """Answer with the form: with what was entered, and with a field for the result of the step `edit`."""
    run, title = plan.run, plan.title
    edited = {name.removeprefix(_RESULT) for name in refusal.entered if name.startswith(_RESULT)}
    shown = [memo for memo in plan.memos if memo.step in {*edited, edit}][:_EDITED_MAX]
    steps = [memo.step for memo in shown]
    names = ["data", "why", *(f"{_RESULT}{step}" for step in steps)]
    content = [
        h.h1[text(title)],
        facts(
            [
                ("Run", [run_link(run.run_id, whole=True), " of ", text(run.function)]),
                ("Results taken over", counted(len(plan.memos), "step") if plan.memos else "none"),
            ]
        ),
        post_form(
            visit,
            url("runs", run.run_id, "rerun"),
            "Rerun",
            request_fields(plan.origin),
            _unused_results(plan, refusal, steps),
            other_reason(refusal, *names),
            _value_field(refusal, "data", "Data of the event", run.events[0].data),
            [
                _value_field(refusal, f"{_RESULT}{memo.step}", ["Result of step ", text(memo.id)], _value(memo) or NULL)
                for memo in shown
            ],
            line(refusal, "why", "why", "Reason", maxlength=str(REASON_CHARACTERS_MAX)),
            h.button[text(title)],
            h.a(href=url("runs", run.run_id))["Back to the run"],
            attributes={"id": _FORM, "data-guard": "entered" if refusal.entered else ""},
        ),
        # Enter in a field presses the first button of the form, so these come after the one that reruns the run.
        _memo_list(plan, steps),
        _other_forms(plan),
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, title, "Runs", counts, *content), 400 if refusal.reason else 200)


def _other_forms(plan: _Plan) -> h.Element:
    """Return buttons that lead to the form from elsewhere, in which other results can be edited.

    They send the form, so that it keeps what was entered.
    """
    run, stopped = plan.run, stopped_label(plan.run.status)
    links = [("", "from the start"), *([(FROM_FAILURE, stopped.removeprefix("Rerun "))] if stopped else [])]
    steps = [(step, ["from step ", text(id)]) for step, id in run.steps[:_LISTED_MAX] if step != plan.origin]
    return h.details(open=not plan.origin)[
        h.summary["Rerun from another step: the results before it are taken over and can be edited"],
        h.ul[
            [
                h.li[h.button(".link", form=_FORM, name=_TO, value=origin)["Rerun ", label]]
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


def _unused_results(plan: _Plan, refusal: Refusal, shown: Sequence[str]) -> h.Node:
    """Return the results that were entered but are not taken over from here; the form keeps them."""
    kept = [name.removeprefix(_RESULT) for name in refusal.entered if name.startswith(_RESULT)]
    ids = dict(plan.run.steps)
    return [
        [
            h.input(type="hidden", name=f"{_UNUSED}{step}", value=refusal.entered[f"{_RESULT}{step}"]),
            note(["The result that you entered for step ", text(ids[step]), " is not used: the step runs again."]),
        ]
        for step in kept
        if step in ids and step not in shown
    ]


def _memo_list(plan: _Plan, edited: Sequence[str]) -> h.Element | None:
    """Return the results that are taken over, each with a button that adds a field for its value to the form."""
    if not plan.memos:
        return None
    rest = len(plan.memos) - _LISTED_MAX

    def row(memo: Memo) -> h.Element:
        edit = h.button(".link", form=_FORM, name=_EDIT, value=memo.step)["edit the result of ", text(memo.id)]
        return h.li[
            text(memo.id),
            " ",
            _shown_value(_value(memo)),
            " ",
            None if memo.step in edited or len(edited) == _EDITED_MAX else edit,
        ]

    return h.details(open=True)[
        h.summary["Results that are taken over"],
        h.ul[[row(memo) for memo in plan.memos[:_LISTED_MAX]], h.li[f"{rest:,} more"] if rest > 0 else None],
        h.p(".hint")[
            f"At most {_EDITED_MAX} results can be edited here; ", h.code["stepstream runs rerun"], " takes more."
        ]
        if len(edited) == _EDITED_MAX
        else None,
    ]
