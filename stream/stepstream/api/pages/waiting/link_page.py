"""The page behind a signed link: it shows one approval to a person without a key, and takes the answer."""

from collections.abc import Mapping

import htpy as h
from starlette.responses import Response

from stepstream.api.approval_links import ApprovalLink
from stepstream.api.pages.parts.components import at, note, text, url
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, known_counts, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.forms import session_form
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.waiting.approval_form import decision_fields
from stepstream.api.pages.waiting.approval_page import LATE, answer_view, approval_facts, refused, stored_decision
from stepstream.contract.errors import InvalidInput
from stepstream.runtime.readmodel.tables.approvals import ApprovalView
from stepstream.runtime.readmodel.why import local_time

_STORED = "Your decision is stored. You can close this page."


async def show_link(site: Site, visit: Visit) -> Response:
    """Answer with the approval of a link."""
    link, asked = await _asked(site, visit)
    return await _page(site, visit, link, asked)


async def answer_link(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Store the decision of a person with a link."""
    link, asked = await _asked(site, visit)
    try:
        counts = await stored_decision(site, asked, form, link.by)
    except InvalidInput as error:
        return await _page(site, visit, link, asked, refused(asked, form, error))
    return see_done(visit, _url(visit), "stored" if counts else "late")


async def _asked(site: Site, visit: Visit) -> tuple[ApprovalLink, ApprovalView]:
    link = site.links.link(visit.request.path_params["token"])
    if link is None:
        raise PageError(404, "This link is not valid; ask for another one.")
    if link.expires_at <= site.now_ms():
        raise PageError(410, f"This link expired at {local_time(link.expires_at)}; ask for another one.")
    if (asked := await site.runs.queries.approval(link.run_id, link.step)) is None:
        raise PageError(404, "The run of this approval was dropped after its retention.")
    return link, asked


def _url(visit: Visit) -> str:
    return url("approve", visit.request.path_params["token"])


async def _page(
    site: Site, visit: Visit, link: ApprovalLink, asked: ApprovalView, refusal: Refusal = ACCEPTED
) -> Response:
    done = visit.done(_url(visit))
    # The read model may not have a decision yet that was just stored.
    form = session_form(visit, _url(visit), "Decide", decision_fields(asked, refusal, link.by))
    content = [
        h.h1[text(asked.title)],
        note(_STORED, "good") if done == "stored" else None,
        note(LATE, "bad") if done == "late" else None,
        approval_facts(asked, with_links=False),
        await answer_view(site, asked, with_values=False),
        [form, h.p(".hint")["This link expires at ", at(link.expires_at), "."]] if asked.is_open and not done else None,
    ]
    counts = await known_counts(site, visit)
    return html(document(visit, asked.title, "", counts, *content), 400 if refusal.reason else 200)
