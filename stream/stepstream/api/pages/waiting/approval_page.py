"""The page of one approval: what is asked, the form that answers it, and the answer once there is one."""

from collections.abc import Mapping

import htpy as h
import msgspec
from starlette.responses import Response

from stepstream.api.actors import is_person
from stepstream.api.pages.parts.components import at, facts, function_link, note, run_link, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.parts.json_tree import json_tree
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.waiting.approval_form import decision_fields, decision_of, field_of
from stepstream.contract.codec import dump_json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.kinds import StepStatus
from stepstream.contract.limits import APPROVAL_COMMENT_CHARACTERS_MAX, APPROVAL_DESCRIPTION_CHARACTERS_MAX
from stepstream.contract.operators.approvals import ApprovalAnswer, decode_answer
from stepstream.contract.text.printable import printable
from stepstream.runtime.decisions import decide
from stepstream.runtime.readmodel.tables.approvals import ApprovalView

LATE = "This was answered already, or it has expired: your decision does not count."
_ENDED = {
    StepStatus.TIMED_OUT: "It expired without an answer.",
    StepStatus.CANCELLED: "The run was cancelled before an answer.",
}


def approval_url(asked: ApprovalView) -> str:
    """Return the URL of the page of an approval."""
    return url("approvals", asked.run_id, asked.step)


async def found_approval(site: Site, run_id: str, step: str) -> ApprovalView:
    """Return an approval; raise PageError if there is none."""
    if (asked := await site.runs.queries.approval(run_id, step)) is None:
        raise PageError(404, "There is no such approval. Its run may have been dropped after its retention.")
    return asked


async def show_approval(site: Site, visit: Visit, refusal: Refusal = ACCEPTED) -> Response:
    """Answer with the page of an approval; with what was wrong in its form, if it was refused."""
    params = visit.request.path_params
    asked = await found_approval(site, params["run_id"], params["step"])
    late = visit.done(approval_url(asked)) == "late"
    content = [
        h.h1[text(asked.title)],
        note(LATE, "bad") if late else None,
        approval_facts(asked),
        await answer_view(site, asked),
        decision_form(visit, asked, refusal) if asked.is_open and not late else None,
        h.p[h.a(href=url("waiting"))["All that waits"]],
    ]
    counts = await site.runs.queries.counts()
    return html(document(visit, asked.title, "Waiting", counts, *content), 400 if refusal.reason else 200)


async def answer_approval(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Store a decision, and lead to the list; or show what was wrong, or that it came too late."""
    params = visit.request.path_params
    asked = await found_approval(site, params["run_id"], params["step"])
    try:
        counts = await stored_decision(site, asked, form, visitor_name(visit))
    except InvalidInput as error:
        return await show_approval(site, visit, refused(asked, form, error))
    if not counts:
        return see_done(visit, approval_url(asked), "late")
    return see_done(visit, url("waiting"), f"{asked.run_id}/{asked.step}")


async def stored_decision(site: Site, asked: ApprovalView, form: Mapping[str, str], by: str) -> bool:
    """Send the decision of a form to its run; return whether it counts. Raise InvalidInput for a wrong one."""
    return await decide(site.engine.signal, asked, decision_of(asked, form, by), site.now_ms())


def refused(asked: ApprovalView, form: Mapping[str, str], error: InvalidInput) -> Refusal:
    """Return what was wrong in the form of an approval."""
    return Refusal("", form, field_of(asked, error), error.reason)


def visitor_name(visit: Visit) -> str:
    """Return the name of a visitor, empty if the visitor has not stated one."""
    return visit.user if is_person(visit.user) else ""


def decision_form(visit: Visit, asked: ApprovalView, refusal: Refusal = ACCEPTED) -> h.Element | None:
    """Return the form that answers an approval; None for a visitor that may only read."""
    label = f"Decide {printable(asked.title)} of run {asked.run_id}"
    return post_form(visit, approval_url(asked), label, decision_fields(asked, refusal, visitor_name(visit)))


def approval_facts(asked: ApprovalView, *, with_links: bool = True) -> h.Node:
    """Return what an approval asks, the people it is for, and until when."""
    return [
        h.p(".message")[text(asked.description, APPROVAL_DESCRIPTION_CHARACTERS_MAX)] if asked.description else None,
        facts(
            [
                ("For", [(text(name), " ") for name in asked.to] or None),
                ("Asked", at(asked.asked_at)),
                ("Until", at(asked.until)),
                ("Function", function_link(asked.function) if with_links else text(asked.function)),
                ("Run", run_link(asked.run_id, whole=True) if with_links else None),
                ("Step", text(asked.id)),
            ]
        ),
    ]


async def answer_view(site: Site, asked: ApprovalView, *, with_values: bool = True) -> h.Node:
    """Return who answered an approval and how, or why there is no answer; None while it is open."""
    if asked.is_open:
        return None
    if said := _ENDED.get(StepStatus(asked.status)):
        return note(said)
    run = await site.runs.queries.show(asked.run_id)
    output = next((step.output for step in run.steps if step.step == asked.step), None) if run else None
    try:
        answer = decode_answer(dump_json(output))
    except (msgspec.MsgspecError, InvalidInput):
        return note("The step got an answer that is not a decision; its run shows it.")
    return _answer(asked, answer, with_values=with_values)


def _answer(asked: ApprovalView, answer: ApprovalAnswer, *, with_values: bool) -> h.Node:
    raw = url("runs", asked.run_id, "raw", query=[("part", f"step-{asked.step}")])
    values = load_json(answer.values, own=True)
    return [
        note(
            ["Approved by " if answer.approved else "Rejected by ", text(answer.by), " at ", at(answer.at)],
            "good" if answer.approved else "info",
        ),
        h.p(".message")[text(answer.comment, APPROVAL_COMMENT_CHARACTERS_MAX)] if answer.comment else None,
        json_tree(values, "Values", raw) if with_values and values is not None else None,
    ]
