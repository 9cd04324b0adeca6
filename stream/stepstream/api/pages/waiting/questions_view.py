"""What a run asks: the approvals and the requests for which its steps wait, each with the way to answer it."""

import htpy as h

from stepstream.api.pages.parts.components import at, facts, text, url
from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.pages.waiting.approval_page import approval_facts, approval_url
from stepstream.contract.kinds import StepKind, StepStatus
from stepstream.contract.text.printable import printable
from stepstream.runtime.readmodel.tables.approvals import ApprovalView
from stepstream.runtime.readmodel.views import RunView, StepView, asked_of

_SHOWN_MAX = 20


async def questions_view(site: Site, visit: Visit, run: RunView) -> h.Node:
    """Return the open approvals and requests of a run; their forms are on their own pages.

    The page of a run is replaced while it is open, and what a person is entering must stay.
    """
    waiting = [each for each in run.steps if each.kind == StepKind.SIGNAL and each.status == StepStatus.WAITING]
    shown: list[h.Node] = []
    for step in waiting[:_SHOWN_MAX]:
        match asked_of(run.run_id, step.step, step.detail):
            case "approval":
                asked = await site.runs.queries.approval(run.run_id, step.step)
                shown.append(_approval(visit, asked) if asked else None)
            case "request":
                shown.append(_request(visit, run.run_id, step))
    return shown


def _approval(visit: Visit, asked: ApprovalView) -> h.Element:
    label = "Decide the approval " if visit.may_operate else "Approval "
    return h.article(".approval", aria_label=f"Approval {printable(asked.title)}")[
        h.h2[text(asked.title)],
        approval_facts(asked),
        h.p[h.a(href=approval_url(asked))[label, text(asked.id)]],
    ]


def _request(visit: Visit, run_id: str, step: StepView) -> h.Element:
    label = "Send the request " if visit.may_operate else "Request "
    return h.article(".approval", aria_label=f"Request {printable(step.id)}")[
        h.h2["Request ", text(step.id)],
        facts([("Since", at(step.first_at)), ("Until", at(step.until))]),
        h.p[h.a(href=url("requests", run_id, step.step))[label, text(step.id)]],
    ]
