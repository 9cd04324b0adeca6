"""What forms of the page do; each answers with a redirect to a page that reports the result."""

from collections.abc import Mapping

from starlette.responses import Response

from stepstream.api.pages.parts.components import url
from stepstream.api.pages.parts.context import Site, Visit, see_done
from stepstream.api.pages.parts.fields import Refusal, entered_reason
from stepstream.api.pages.runs.run_forms import CANCEL, PAUSE, awaited_signals
from stepstream.api.pages.runs.run_page import found, show_run
from stepstream.contract.codec import dump_json, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.limits import MIB
from stepstream.runtime.pauses import pause_of

_SIGNAL_BYTES_MAX = MIB


async def cancel_run(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Cancel a run."""
    run_id = visit.request.path_params["run_id"]
    try:
        why = entered_reason(form)
    except InvalidInput as error:
        return await show_run(site, visit, Refusal(CANCEL, form, error.field, error.reason))
    children = form.get("children", "") == "cancel"
    done = "cancelled" if await site.engine.operator.cancel(run_id, visit.user, why, children=children) else "ended"
    return see_done(visit, url("runs", run_id), done)


async def pause_run(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Pause a run."""
    run_id = visit.request.path_params["run_id"]
    until, why = form.get("until", "").strip(), form.get("why", "").strip()
    try:
        pause = pause_of(until, visit.user, why, site.now_ms())
    except InvalidInput as error:
        return await show_run(site, visit, Refusal(PAUSE, form, error.field, error.reason))
    done = "paused" if await site.engine.operator.pause(run_id, pause) else "ended"
    return see_done(visit, url("runs", run_id), done)


async def resume_run(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Resume a run."""
    run_id = visit.request.path_params["run_id"]
    try:
        why = entered_reason(form)
    except InvalidInput as error:
        return await show_run(site, visit, Refusal(PAUSE, form, error.field, error.reason))
    done = "resumed" if await site.engine.operator.unpause(run_id, visit.user, why) else "not-paused"
    return see_done(visit, url("runs", run_id), done)


async def send_signal(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Send the signal that a step of a run waits for."""
    run, hash_ = await found(site, visit), form.get("step", "")
    step = next((each for each in awaited_signals(run) if each.step == hash_), None)
    try:
        data = form.get("data", "null").encode()
        if len(data) > _SIGNAL_BYTES_MAX:
            raise TooLarge(f"the data has {len(data):,} bytes; at most {_SIGNAL_BYTES_MAX:,} are allowed", "data")
        value = dump_json(load_json(data, field="data"))
    except InvalidInput as error:
        return await show_run(site, visit, Refusal(hash_, form, "data", error.reason))
    is_delivered = step is not None and await site.engine.signal(step.detail, value, visit.user)
    return see_done(visit, url("runs", run.run_id), "delivered" if is_delivered else "not-delivered")
