"""The forms that change a limit, pause it, resume it and reset it, and what they do."""

from collections.abc import Mapping

import htpy as h

from stepstream.api.pages.parts.components import note, url
from stepstream.api.pages.parts.context import Site, Visit
from stepstream.api.pages.parts.fields import Refusal, line, other_reason
from stepstream.api.pages.parts.forms import post_form
from stepstream.api.pages.runs.run_forms import UNTIL
from stepstream.api.routes.limits import change_limit
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import REASON_CHARACTERS_MAX
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested, LimitSetting
from stepstream.runtime.limit_changes import LimitTarget, NewNumbers, pause_request, set_request, undo_request

_MESSAGES = {
    LimitAction.SET: "The limit is set; runs that may start now do so.",
    LimitAction.PAUSE: "The limit is paused: no run passes it.",
    LimitAction.RESUME: "The limit is resumed.",
    LimitAction.RESET: "The limit is as in code again.",
    "unchanged": "Nothing was to change.",
}
_FIELDS = ("limit", "period", "burst", "until", "why")


async def change_by_form(site: Site, visit: Visit, target: LimitTarget, form: Mapping[str, str]) -> str:
    """Change a limit as a form asks; return what was done. Raise InvalidInput that names the field."""
    request = _request_of(site, visit, target, form)
    return request.action if await change_limit(site.engine.operator, request) else "unchanged"


def _request_of(site: Site, visit: Visit, target: LimitTarget, form: Mapping[str, str]) -> LimitChangeRequested:
    action, until, why = (form.get(name, "").strip() for name in ("action", "until", "why"))
    match action:
        case LimitAction.SET:
            burst = form.get("burst", "").strip()
            limit, most = _number(form.get("limit", ""), "limit"), _number(burst, "burst") if burst else None
            numbers = NewNumbers(limit, form.get("period", "").strip(), most, until)
            return set_request(target, numbers, visit.user, why, site.now_ms())
        case LimitAction.PAUSE:
            return pause_request(target, until, visit.user, why, site.now_ms())
        case LimitAction.RESUME | LimitAction.RESET:
            return undo_request(target, LimitAction(action), visit.user, why)
        case _:
            raise InvalidInput("send a form of the page", "action")


def _number(given: str, field: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise InvalidInput(f"{given[:80]!r} is not a number", field) from None


def done_message(done: str) -> h.Node:
    """Return the message about what was done."""
    return note(_MESSAGES[done], "good") if done in _MESSAGES else None


def change_forms(visit: Visit, target: LimitTarget, setting: LimitSetting | None, refusal: Refusal) -> h.Node:
    """Return the forms for a limit: those that undo a change only if there is one."""
    action = url("limit", query=[("name", target.name), ("key", target.key)])
    pause, reset = setting and setting.pause, setting and (setting.pause or setting.override)
    return [
        other_reason(refusal, *_FIELDS),
        _set_form(visit, action, target, refusal.of(LimitAction.SET)),
        _button(visit, action, LimitAction.RESUME, "Resume") if pause else None,
        _pause_form(visit, action, refusal.of(LimitAction.PAUSE)) if not pause else None,
        _button(visit, action, LimitAction.RESET, "Reset to the numbers in code") if reset else None,
    ]


def _hidden(action: LimitAction) -> h.Node:
    return h.input(type="hidden", name="action", value=action)


def _button(visit: Visit, url: str, action: LimitAction, label: str) -> h.Node:
    return post_form(visit, url, label, _hidden(action), h.button[label])


def _set_form(visit: Visit, url: str, target: LimitTarget, refusal: Refusal) -> h.Node:
    counts_starts = target.rule is None or target.rule.period_ms > 0
    form = post_form(
        visit,
        url,
        "Set the limit",
        _hidden(LimitAction.SET),
        line(refusal, "set-limit", "limit", "Limit", inputmode="numeric"),
        line(refusal, "set-period", "period", "Period (1m; empty: that in code)") if counts_starts else None,
        line(refusal, "set-burst", "burst", "Burst (empty: that in code)", inputmode="numeric")
        if counts_starts
        else None,
        line(refusal, "set-until", "until", "Until (2h, or 2026-01-31T12:00:00Z; empty: until reset)"),
        line(refusal, "set-why", "why", "Why", maxlength=str(REASON_CHARACTERS_MAX)),
        h.button["Set"],
    )
    return h.details(open=bool(refusal.reason))[h.summary["Set"], form] if form else None


def _pause_form(visit: Visit, url: str, refusal: Refusal) -> h.Node:
    form = post_form(
        visit,
        url,
        "Pause the limit",
        _hidden(LimitAction.PAUSE),
        line(refusal, "pause-until", "until", UNTIL),
        line(refusal, "pause-why", "why", "Why", maxlength=str(REASON_CHARACTERS_MAX)),
        h.button["Pause"],
    )
    return h.details(open=bool(refusal.reason))[h.summary["Pause"], form] if form else None
