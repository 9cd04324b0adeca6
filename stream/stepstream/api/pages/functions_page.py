"""The pages of functions: a list of what is registered, and one function with its triggers, times and a start form."""

from collections.abc import Mapping, Sequence

import htpy as h
from starlette.responses import Response

from stepstream.api.pages.event_form import event_form, model_form, send_entered, send_values
from stepstream.api.pages.parts.components import (
    Column,
    at,
    event_url,
    facts,
    filter_url,
    function_link,
    function_url,
    known_params,
    listing,
    note,
    numbers,
    row,
    run_link,
    text,
    text_field,
    url,
)
from stepstream.api.pages.parts.context import PageError, Site, Visit, html, see_done
from stepstream.api.pages.parts.fields import ACCEPTED, Refusal
from stepstream.api.pages.parts.layout import document
from stepstream.api.pages.performance_page import PERCENTILES, STEPS_COUNTED, folded_hint, timings_table
from stepstream.api.pages.scope_forms import (
    change_pause,
    pause_changes,
    pause_form,
    pause_message,
    pause_of_scope,
    pause_text,
)
from stepstream.api.routes.functions import CRON_TIMES, FunctionView, cron_times, function_views, rated_since
from stepstream.api.routes.timings import SINCE_ALL, TimingsAsked, TimingsOf, find_timings
from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.functions import CancelTrigger, CronTrigger, EventTrigger, FunctionRegistered, Trigger
from stepstream.contract.gates import rule_text
from stepstream.contract.kinds import ENDED_RUN_STATUSES, OPEN_RUN_STATUSES, RunStatus
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.operators.control import function_scope
from stepstream.contract.text.wording import counted, duration_text, length_text
from stepstream.runtime.readmodel.durations import MEASURED_MAX, Durations
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.timings import Rate, Timing

ROWS = 100
_TRIGGERS_SHOWN = 3
_STEPS = 10
# The form that pauses, on the page with the form that starts.
_PAUSE = "pause"
_TRIGGER_CHARACTERS = 120
_COLUMNS = (
    Column("Function"),
    Column("App", label="app"),
    Column("Triggers", "wide"),
    Column("Next time", label="next"),
    *numbers("Open", *(status.capitalize() for status in ENDED_RUN_STATUSES)),
    Column("Last hours", label="last hours"),
)
_SLOWEST = (Column("Slowest runs"), *numbers("Took"))


async def show_functions(site: Site, visit: Visit) -> Response:
    """Answer with a page of the list."""
    asked = known_params(visit, "name", "after")
    now_ms = site.now_ms()
    known = await function_views(site.engine, site.runs, now_ms)
    views = [each for each in known if asked["name"].lower() in each.id.lower() and each.id > asked["after"]]
    later = url("functions", query=[("name", asked["name"]), ("after", views[ROWS - 1].id)]) if views[ROWS:] else ""
    return html(
        document(
            visit,
            "Functions",
            "Functions",
            await site.runs.queries.counts(),
            h.h1["Functions"],
            h.form(".filters", action=url("functions"), role="search", aria_label="Find functions")[
                text_field("name", "Name contains", asked["name"]),
                h.button["Find"],
                h.a(href=url("functions"))["Clear"],
            ],
            h.p[h.a(href=url("performance", query=[("of", "functions"), ("sort", "failed")]))["Which fail most"]],
            None if site.engine.overview.functions() else _unknown(),
            [note(line, "warn") for line in site.engine.failed_apps()],
            _table(views[:ROWS], now_ms)
            if views
            else note("No function matches." if known else "No function yet: start a worker whose app has one."),
            h.nav(".pages", aria_label="Pages of the list")[
                h.a("#earlier", href=url("functions", query=[("name", asked["name"])]))["First functions"]
                if asked["after"]
                else None,
                h.a("#later", href=later)["Further functions"] if later else None,
            ],
        )
    )


def _table(views: Sequence[FunctionView], now_ms: int) -> h.Node:
    since = at(rated_since(now_ms))
    return [
        listing("Table of functions", _COLUMNS, [_row(view, now_ms) for view in views]),
        h.p(".hint")["The last hours began at ", since, "; runs that were cancelled or skipped do not count in them."],
    ]


def _unknown() -> h.Element:
    return note("This engine serves no shard now, so it does not know what is registered; ask another engine.", "warn")


def _row(view: FunctionView, now_ms: int) -> h.Element:
    known = view.registration
    triggers = known.triggers if known else ()
    due = [cron_times(each, now_ms, 1) for each in triggers if isinstance(each, CronTrigger)]
    more = len(triggers) - _TRIGGERS_SHOWN
    return row(
        _COLUMNS,
        [function_link(view.id), h.span(".warn")[" retired"] if _is_retired(known) else None],
        text(known.app) if known else None,
        h.ul(".plain")[
            [h.li[_trigger(each)] for each in triggers[:_TRIGGERS_SHOWN]],
            h.li[f"{more} more"] if more > 0 else None,
        ]
        if triggers
        else _untriggered(known),
        at(min((times[0] for times in due if times), default=0)),
        _count_link(view, "open", sum(view.counts.get(each, 0) for each in OPEN_RUN_STATUSES)),
        *(_count_link(view, status, view.counts.get(status, 0)) for status in ENDED_RUN_STATUSES),
        _rate(view.rate),
    )


def _rate(rate: Rate) -> str:
    """Return how many runs ended in the last hours, and how many of these failed."""
    failed = f", {rate.failed:,} of them failed ({rate.failed / rate.ended:.0%})" if rate.failed else ""
    return f"{rate.ended:,} ended{failed}" if rate.ended else ""


def _is_retired(known: FunctionRegistered | None) -> bool:
    return known is not None and known.retired


def _count_link(view: FunctionView, status: str, count: int, word: str = "") -> h.Node:
    target = url("runs", query=[("filter", str(Filter().having("function", view.id).having("status", status)))])
    said = f"{word} {count:,}".strip()
    return h.a(href=target)[said] if count else said


def _untriggered(known: FunctionRegistered | None) -> str | None:
    """Return how the runs of a function without triggers start; None for a function that is not registered."""
    return "invoked only" if known and not known.retired else None


def _trigger(trigger: Trigger) -> h.Node:
    match trigger:
        case EventTrigger():
            condition = [" if ", h.code[text(trigger.condition, _TRIGGER_CHARACTERS)]] if trigger.condition else None
            return ["event ", text(trigger.event), condition]
        case CronTrigger():
            return ["cron ", h.code[text(trigger.expression)], " ", text(trigger.timezone)]


def _limit(length_ms: int) -> str | None:
    return duration_text(length_ms) if length_ms else None


def _rule(rule: CancelTrigger) -> h.Node:
    condition = [" if ", h.code[text(rule.condition, _TRIGGER_CHARACTERS)]] if rule.condition else None
    match = [" with the same ", h.code[text(rule.match)]] if rule.match else None
    within = f" within {duration_text(rule.timeout_ms)}" if rule.timeout_ms else None
    return ["event ", text(rule.event), match, condition, within]


async def show_function(site: Site, visit: Visit) -> Response:
    """Answer with the page of a function."""
    known_params(visit, "id", "done")
    return await _function_page(site, visit, ACCEPTED)


async def pause_function(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Pause or resume a function; or show the form again with what is wrong."""
    view = await _found(site, visit)
    try:
        done = await change_pause(site, visit, form, function_scope(view.id))
    except InvalidInput as error:
        return await _function_page(site, visit, Refusal(_PAUSE, form, error.field, error.reason))
    return see_done(visit, function_url(view.id), done)


async def _found(site: Site, visit: Visit) -> FunctionView:
    """Return the function of a URL; raise PageError if there is none."""
    id = visit.param("id")
    view = next((each for each in await function_views(site.engine, site.runs, site.now_ms()) if each.id == id), None)
    if view is None:
        raise PageError(404, "There is no function with this id, and no run of it.")
    return view


async def start_function(site: Site, visit: Visit, form: Mapping[str, str]) -> Response:
    """Send an event that starts a function, and lead to its runs; or show the form again with what is wrong."""
    view = await _found(site, visit)
    try:
        schema = _input_of(view.registration)
        id = await (send_entered(site, visit, form) if schema is None else send_values(site, visit, form, schema))
    except InvalidInput as error:
        return await _function_page(site, visit, Refusal("", form, error.field, error.reason))
    return see_done(visit, event_url(id), "sent")


async def _function_page(site: Site, visit: Visit, refusal: Refusal) -> Response:
    view, queries, now_ms = await _found(site, visit), site.runs.queries, site.now_ms()
    id, pause = view.id, pause_of_scope(site.engine.overview.pauses(), function_scope(view.id))
    steps = await find_timings(site.runs, TimingsAsked(since=SINCE_ALL, function=id), now_ms, limit=_STEPS)
    content = [
        pause_message(visit.done(function_url(id))),
        h.div(".heading")[h.h1[text(id)]],
        note(["This function is ", pause_text(pause), "."], "warn") if pause else None,
        None if view.registration else _unknown(),
        note("The latest release of its app does not have this function: nothing starts it.", "warn")
        if _is_retired(view.registration)
        else None,
        _facts(view.registration, now_ms) if view.registration else None,
        _counts(view, now_ms),
        _durations(await queries.durations(id)),
        _steps(id, steps),
        h.p[h.a(href=url("errors", query=[("function", id)]))["Errors of this function"]],
        _start(visit, view, await queries.latest_event(id), refusal.of("")),
        pause_form(visit, url("function", "pause", query=[("id", id)]), "the function", pause, refusal.of(_PAUSE))
        if view.registration
        else None,
        pause_changes(site.engine.overview.pause_changes(function_scope(id))),
    ]
    page = document(visit, f"Function {id}", "Functions", await queries.counts(), *content)
    return html(page, 400 if refusal.reason else 200)


def _facts(known: FunctionRegistered, now_ms: int) -> h.Element:
    crons = [trigger for trigger in known.triggers if isinstance(trigger, CronTrigger)]
    times = sorted(due for trigger in crons for due in cron_times(trigger, now_ms))[:CRON_TIMES]
    on_failure = function_link(known.on_failure) if known.on_failure else None
    return facts(
        [
            ("Name", text(known.name) if known.name else None),
            ("App", text(known.app)),
            (
                "Triggers",
                h.ul(".plain")[[h.li[_trigger(each)] for each in known.triggers]]
                if known.triggers
                else _untriggered(known),
            ),
            ("Next times", [[at(due), " "] for due in times] or None),
            ("Limits", h.ul(".plain")[(h.li[text(rule_text(rule))] for rule in known.gates)] if known.gates else None),
            (
                "Cancelled by",
                h.ul(".plain")[(h.li[_rule(each)] for each in known.cancel_on)] if known.cancel_on else None,
            ),
            ("Must start within", _limit(known.timeouts.start_ms) if known.timeouts else None),
            ("Must end within", _limit(known.timeouts.finish_ms) if known.timeouts else None),
            ("On failure", on_failure),
            ("Retries of a step, at most", f"{known.retries:,}"),
            ("Queues of the app", ", ".join(known.queues) or None),
            ("Events are kept for", duration_text(known.lookback_ms) if known.lookback_ms else None),
            (
                h.span(title="How many runs, each started by an event of the one before, may follow one another")[
                    "Runs in a chain, at most"
                ],
                f"{known.chain_max:,}",
            ),
            ("Version of the code", h.code[text(known.version)] if known.version else None),
            ("Release of the app", h.code[text(known.release)] if known.release else None),
        ]
    )


def _counts(view: FunctionView, now_ms: int) -> h.Node:
    per_hour = view.rate.ended * HOUR_MS / (now_ms - rated_since(now_ms))
    return [
        h.ul(".tabs", aria_label="Runs by status")[
            h.li[h.a(href=filter_url("function", view.id))["all runs"]],
            [h.li[_count_link(view, status, view.counts.get(status, 0), word=status)] for status in RunStatus],
        ],
        h.p(".hint")[
            "Since ",
            at(rated_since(now_ms)),
            f": {_rate(view.rate)}; {per_hour:,.1f} ended per hour." if view.rate.ended else ": no run ended.",
            " These are runs that completed or failed; the numbers by status are those of all runs that are kept.",
        ],
    ]


def _durations(found: Durations) -> h.Node:
    if not found.runs:
        return None
    of = counted(found.runs, "completed run")
    latest = f"the latest {MEASURED_MAX:,} completed runs" if found.runs == MEASURED_MAX else of
    return h.section(aria_labelledby="durations")[
        h.h2("#durations")["Durations"],
        h.p(".hint")[
            f"From start to end, with waits, of {latest}, whenever they ended; failed runs do not count. "
            "Half take at most p50, 90 % p90, and 99 % p99."
        ],
        facts(
            [
                ("p50", length_text(found.p50_ms)),
                ("p90", length_text(found.p90_ms)),
                ("p99", length_text(found.p99_ms)),
            ]
        ),
        listing("The slowest runs", _SLOWEST, [_slow_row(*each) for each in found.slowest]),
    ]


def _steps(id: str, found: Sequence[Timing]) -> h.Node:
    if not found:
        return None
    return h.section(aria_labelledby="step-times")[
        h.h2("#step-times")["Its slowest steps"],
        h.p(".hint")[f"{STEPS_COUNTED} {PERCENTILES}"],
        folded_hint(found),
        timings_table(TimingsOf.STEPS, found),
        h.p[h.a(href=url("performance", query=[("function", id)]))["All steps of this function"]],
    ]


def _slow_row(run_id: str, length_ms: int) -> h.Element:
    return row(_SLOWEST, run_link(run_id, whole=True), length_text(length_ms))


def _start(visit: Visit, view: FunctionView, latest: Json, refusal: Refusal) -> h.Node:
    """Return the form that sends an event which starts the function; the latest such event is the example."""
    triggers: Sequence[Trigger] = view.registration.triggers if view.registration else ()
    events = [trigger.event for trigger in triggers if isinstance(trigger, EventTrigger)]
    if not events or not visit.may_operate or _is_retired(view.registration):
        return None
    found = latest if isinstance(latest, dict) else {}
    plain = next((event for event in events if not event.endswith("*")), events[0].rstrip("*"))
    action, schema = function_url(view.id), _input_of(view.registration)
    return h.section(aria_labelledby="start")[
        h.h2("#start")["Start"],
        h.p(".hint")["An event starts every function whose trigger it matches. The data is that of the latest event."]
        if found
        else h.p(".hint")["An event starts every function whose trigger it matches."],
        event_form(visit, action, refusal, name=str(found.get("name", plain)), example=found.get("data"))
        if schema is None
        else model_form(visit, action, refusal, schema, events, found),
    ]


def _input_of(known: FunctionRegistered | None) -> Json:
    """Return the JSON schema of the data of the events that start a function; None if it declares none."""
    return load_json(known.input, own=True) if known else None
