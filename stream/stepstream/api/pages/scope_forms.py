"""The forms that pause a function or a queue, and resume it, and what they do."""

from collections.abc import Iterable, Mapping, Sequence

import htpy as h

from stepstream.api.pages.parts.components import at, note, text
from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.pages.parts.fields import Refusal, entered_reason, line
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.runs.run_forms import UNTIL
from stepstream.api.routes.pauses import pause_scope, resume_scope
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.runtime.overview import ScopeChangeView, ScopePauseView
from stepstream.runtime.pauses import pause_of

# The field with which the form that resumes differs from the one that pauses.
_RESUME = "resume"
_MESSAGES = {
    "paused": "It is paused: runs are accepted, and none of them gets code to run.",
    "resumed": "It is resumed.",
    "not-paused": "It was not paused.",
}


async def change_pause(site: Site, visit: Visit, form: Mapping[str, str], scope: str) -> str:
    """Pause or resume a scope as a form asks; return what was done. Raise InvalidInput that names the field."""
    if _RESUME in form:
        why = entered_reason(form)
        return "resumed" if await resume_scope(site.engine.operator, scope, visit.user, why) else "not-paused"
    until, why = form.get("until", "").strip(), form.get("why", "").strip()
    await pause_scope(site.engine.operator, scope, pause_of(until, visit.user, why, site.now_ms()))
    return "paused"


def pause_message(done: str) -> h.Node:
    """Return the message about what was done."""
    return note(_MESSAGES[done], "good") if done in _MESSAGES else None


def pause_of_scope(pauses: Iterable[ScopePauseView], scope: str) -> ScopePauseView | None:
    """Return the pause of a scope, None if it is not paused."""
    return next((each for each in pauses if each.scope == scope), None)


def pause_text(pause: ScopePauseView) -> h.Node:
    """Return who paused a scope, since and until when, and why."""
    return [
        "paused since ",
        at(pause.since),
        *_details(pause.until, pause.by, pause.why),
    ]


def pause_changes(changes: Sequence[ScopeChangeView]) -> h.Node:
    """Return who paused and resumed a scope, and why, the newest first."""
    if not changes:
        return None
    return h.details[
        h.summary["Pauses"],
        h.ul(".plain")[[h.li[_change_text(each)] for each in changes]],
    ]


def _change_text(change: ScopeChangeView) -> h.Node:
    return [
        "paused " if change.paused else "resumed ",
        at(change.at),
        None if change.paused or change.by else ": the pause expired",
        *_details(change.until, change.by, change.why),
    ]


def _details(until: int, by: str, why: str) -> tuple[h.Node, ...]:
    return (
        [" until ", at(until)] if until else None,
        [" by ", text(by)] if by else None,
        [": ", text(why, REASON_CHARACTERS_MAX)] if why else None,
    )


def pause_form(
    visit: Visit, action: str, name: str, pause: ScopePauseView | None, refusal: Refusal, id: str = "pause"
) -> h.Node:
    """Return the form that pauses what `name` says, or resumes it if it is paused; `id` is unique in its page."""
    why = line(refusal, f"{id}-why", "why", "Reason (optional)", maxlength=str(REASON_CHARACTERS_MAX))
    if pause:
        resume = h.input(type="hidden", name=_RESUME, value="1")
        return post_form(visit, action, f"Resume {name}", resume, why, h.button["Resume"])
    until = line(refusal, f"{id}-until", "until", UNTIL)
    form = post_form(visit, action, f"Pause {name}", until, why, h.button["Pause"])
    return h.details(open=bool(refusal.reason))[h.summary["Pause"], form] if form else None
