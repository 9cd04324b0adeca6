"""Why an open run does not continue: one sentence for each thing that it waits for, the most serious first."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from stepstream.contract.codec import Json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import GateRule, rule_text
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.kinds import OPEN_RUN_STATUSES, OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.limits import MINUTE_MS, POSTPONE_MS_MAX
from stepstream.contract.operators.approvals import APPROVAL_SIGNALS
from stepstream.contract.operators.control import function_scope, queue_scope
from stepstream.contract.operators.limit_views import LimitView
from stepstream.contract.operators.run_requests import request_signal
from stepstream.contract.text.names import workers_name
from stepstream.contract.text.waits import read_several
from stepstream.contract.text.wording import length_text, missing_code, unfit_code
from stepstream.runtime.overview import Overview, RunningWorker, ScopePauseView, ShardView
from stepstream.runtime.readmodel.limit_reasons import limit_remedy, limit_text
from stepstream.runtime.readmodel.views import RunView, StepView, queue_of

# A run may have thousands of open steps; the most serious reasons come first.
REASONS_MAX = 20

_BEFORE_START = (RunStatus.SCHEDULED, RunStatus.QUEUED)
_OWN_REFERENCE = re.compile(r"\bevent((?:\.[A-Za-z_]\w*)+)")
_METRIC = "stepstream_worker_lag_records"


class WhyCode(StrEnum):
    """What an open run waits for, or that a timeout will cancel it; in the order in which reasons are listed."""

    SHARD = "shard"
    MISSING_CODE = "missing-code"
    PAUSED = "paused"
    NO_WORKER = "no-worker"
    RETRY = "retry"
    WORKER = "worker"
    CHILD = "child"
    APPROVAL = "approval"
    SIGNAL = "signal"
    REQUEST = "request"
    EVENT = "event"
    SLEEP = "sleep"
    LIMIT = "limit"
    SCHEDULED = "scheduled"
    TIMEOUT = "timeout"


_ORDER = list(WhyCode)
_SINCE_AT_END = (WhyCode.MISSING_CODE, WhyCode.NO_WORKER, WhyCode.WORKER, WhyCode.LIMIT)


@dataclass(frozen=True, slots=True)
class Why:
    """A reason why a run does not continue, as one or two sentences; times in Unix ms, 0 if unknown.

    The text has the times too. `step` is the id of the open step, "" for the code between steps. `remedy` says what to
    do, "" if time or an event will do it.
    """

    code: WhyCode
    text: str
    step: str = ""
    since: int = 0
    until: int = 0
    remedy: str = ""


def local_time(at_ms: int) -> str:
    """Return a time (Unix ms) in the time zone of the process, or "" for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1_000)) if at_ms else ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside a run itself; what is unknown is left out.

    `workers` has the number of running workers by name. `function` is the registration of the run's function, None if
    unknown. `shard` is the shard of the run. `pauses` has those of functions and queues. `limit` is the one for which
    the run waits.
    """

    workers: Mapping[str, int] = field(default_factory=dict)
    function: FunctionRegistered | None = None
    shard: ShardView | None = None
    pauses: Sequence[ScopePauseView] = ()
    limit: LimitView | None = None


async def limit_of(run: RunView, find: Callable[[str], Awaitable[LimitView | None]]) -> LimitView | None:
    """Return the limit for which a run or a step of it waits, by a call that finds it; None without one."""
    bodies = any(step.kind == StepKind.RUN and step.status in OPEN_STEP_STATUSES for step in run.steps)
    if run.status not in _BEFORE_START and not bodies:
        return None
    try:
        return await find(run.run_id)
    except StepstreamError:
        # Its shard, or that of the limit, does not answer; what else is known still explains the run.
        return None


def surroundings_of(
    run: RunView, overview: Overview, workers: Mapping[str, Sequence[RunningWorker]], limit: LimitView | None = None
) -> Surroundings:
    """Return what a process knows beside a run; `workers` has the running workers, by name."""
    function = next((each for each in overview.functions() if each.id == run.function), None)
    shards = overview.shards()
    shard = shards[shard_of(run_routing(run.run_id), len(shards))] if shards else None
    running = {name: len(found) for name, found in workers.items()}
    return Surroundings(running, function, shard, overview.pauses(), limit)


def why_open(run: RunView, now_ms: int, known: Surroundings) -> list[Why]:
    """Return why a run does not continue, at most REASONS_MAX reasons; empty if it has ended."""
    if run.status not in OPEN_RUN_STATUSES:
        return []
    shard, limits = _of_shard(known.shard), _of_deadline(run.deadline, now_ms)
    found: list[Why] = []
    if not (isinstance(run.deadline, Mapping) and run.deadline["expired"]):
        found = [*_of_pauses(run, known.pauses, now_ms), *_of_run(run, now_ms, known)]
    ordered = sorted([*shard, *found], key=lambda why: _ORDER.index(why.code))
    return [_as_sentence(each) for each in (*ordered[: REASONS_MAX - len(limits)], *limits)]


def at_once_text(steps: Iterable[str]) -> str:
    """Return what is said above reasons, given their steps; "" unless several steps are among them."""
    waiting = len([*filter(None, steps)])
    return f"{waiting:,} steps wait at once:" if waiting > 1 else ""


def _as_sentence(why: Why) -> Why:
    # The text of what a step waits for begins with the time.
    since = f" (since {local_time(why.since)})" if why.since and why.code in _SINCE_AT_END else ""
    return replace(why, text=_sentence(f"{why.text}{since}"), remedy=_sentence(why.remedy))


def _sentence(text: str) -> str:
    end = "" if text.endswith((".", "!", "?")) or not text else "."
    return f"{text[:1].upper()}{text[1:]}{end}"


def _time(at_ms: int, now_ms: int) -> str:
    """Return a time, and in how long it will be."""
    return f"{local_time(at_ms)} (in {length_text(at_ms - now_ms)})" if at_ms > now_ms else local_time(at_ms)


def _of_deadline(deadline: Any, now_ms: int) -> Sequence[Why]:
    """Return when a timeout cancels a run."""
    if not isinstance(deadline, Mapping):
        return []
    at: int = deadline["at"]
    until = "its code has not started" if deadline["timeout"] == "start" else "it has not ended"
    text = f"a timeout cancels it at {_time(at, now_ms)} if {until}"
    if deadline["expired"]:
        running = "it has exceeded its finish timeout, and waits only for the bodies that are running"
        text = f"{running}; it is cancelled at {_time(at, now_ms)} at the latest"
    return [Why(WhyCode.TIMEOUT, text, until=at)]


def _of_shard(shard: ShardView | None) -> Sequence[Why]:
    if shard is None or not shard.unready:
        return []
    remedy = "if that does not end soon, look at /ready and the log of the engines"
    return [Why(WhyCode.SHARD, f"its shard {shard.shard} processes no records: {shard.unready}", remedy=remedy)]


def _of_pauses(run: RunView, pauses: Sequence[ScopePauseView], now_ms: int) -> Sequence[Why]:
    """Return the pauses of a run's function, and of the queues in which its open steps are."""
    still = [step for step in run.steps if step.status in OPEN_STEP_STATUSES]
    queues = {queue for step in still if (queue := queue_of(step.kind, step.detail))}
    scopes = {function_scope(run.function), *(queue_scope(run.app, queue) for queue in queues)}
    found = [pause for pause in pauses if pause.scope in scopes]
    return [
        Why(
            WhyCode.PAUSED,
            _pause_text(
                pause.by, f"the {pause.scope.replace(':', ' ', 1)}", (pause.since, pause.until, now_ms), pause.why
            ),
            since=pause.since,
            until=pause.until,
            remedy=_remedy(pause.scope),
        )
        for pause in found
    ]


def _remedy(scope: str) -> str:
    kind, _, name = scope.partition(":")
    names = name if kind == "function" else name.replace(".", " ", 1)
    return f"resume it with `stepstream {kind}s resume {names}`"


def _pause_text(by: str, what: str, times: tuple[int, int, int], why: str) -> str:
    """Return who paused what; `times` are the start and the end of the pause, and now."""
    since, until, now_ms = times
    ends = f" until {_time(until, now_ms)}" if until else ""
    return f"{what} was paused by {by or 'an operator'} at {local_time(since)}{ends}{f': {why}' if why else ''}"


def _of_run(run: RunView, now_ms: int, known: Surroundings) -> Sequence[Why]:
    if isinstance(run.paused, Mapping):
        return [_paused(run.run_id, run.paused, now_ms)]
    if run.status == RunStatus.SCHEDULED and (run.started_at > now_ms or not _rules(known.function)):
        return [Why(WhyCode.SCHEDULED, f"it starts at {_time(run.started_at, now_ms)}", until=run.started_at)]
    if run.status in _BEFORE_START:
        return [_limited(run, known)]
    if run.retry_at > now_ms:
        attempt = f"attempt {run.attempt + 1} of the code between steps is due at {_time(run.retry_at, now_ms)}"
        return [Why(WhyCode.RETRY, f"{attempt}{_after(run.error)}", until=run.retry_at)]
    still = [step for step in run.steps if step.status in OPEN_STEP_STATUSES]
    if not still:
        since = _last_moved(run)
        return [_worker("its code, or the body of a step,", "", run, "", since, known)]
    return [_of_step(step, run, now_ms, known) for step in still]


def _rules(function: FunctionRegistered | None) -> Sequence[GateRule]:
    return function.gates if function else ()


def _limited(run: RunView, known: Surroundings) -> Why:
    since = _last_moved(run)
    if known.limit:
        text = limit_text("it", known.limit, local_time)
        return Why(WhyCode.LIMIT, text, since=since, remedy=limit_remedy(known.limit))
    limits = " and ".join(rule_text(rule) for rule in _rules(known.function) if rule.excess.waits)
    text = "it waits for a limit on the runs of its function" + (f": {limits}" if limits else "")
    remedy = f"the runs that passed it are those with the filter `function:{run.function} status:running`"
    return Why(WhyCode.LIMIT, text, since=since, remedy=remedy)


def _paused(run_id: str, pause: Mapping[str, Any], now_ms: int) -> Why:
    since, until, why = pause["since"], pause["until"], pause["why"]
    remedy = f"resume it with `stepstream runs resume {run_id}`, or with POST /v1/runs/{run_id}/resume"
    text = _pause_text(pause["by"], "it", (since, until, now_ms), why)
    return Why(WhyCode.PAUSED, text, since=since, until=until, remedy=remedy)


def _of_step(step: StepView, run: RunView, now_ms: int, known: Surroundings) -> Why:
    name, since, until = f"step {step.id!r}", step.first_at, step.until
    waited = f"{name} has waited since {local_time(since)} for"
    ends = f". The wait ends at {_time(until, now_ms)}" if until else ""
    # An invoked run that takes too long is an error instead.
    without = f"{ends}, and the run continues without it" if until else ""
    match step.kind:
        case StepKind.SLEEP:
            text = f"{name} has slept since {local_time(since)}. It wakes at {_time(until, now_ms)}"
            return Why(WhyCode.SLEEP, text, step.id, since, until)
        case StepKind.WAIT:
            own = run.events[0] if isinstance(run.events, list) and run.events else None
            return Why(WhyCode.EVENT, f"{waited} {awaited(step.detail, own)}{without}", step.id, since, until)
        case StepKind.SIGNAL if step.detail == request_signal(run.run_id, step.step):
            remedy = f"send it: on the page of the run, or with POST /v1/runs/{run.run_id}/requests/{quote(step.id)}"
            return Why(WhyCode.REQUEST, f"{waited} the request {step.id!r}{without}", step.id, since, until, remedy)
        case StepKind.SIGNAL:
            if step.detail.startswith(APPROVAL_SIGNALS):
                decide = f"`stepstream approvals approve {run.run_id}` or `reject`"
                post = f"POST /v1/approvals/{run.run_id}/{step.step}"
                remedy = f"decide it: on the page Waiting, with {decide}, or with {post}"
                return Why(WhyCode.APPROVAL, f"{waited} a person's decision{without}", step.id, since, until, remedy)
            remedy = "send it: on the page of the run, with `stepstream signal`, or with POST /v1/signals"
            return Why(WhyCode.SIGNAL, f"{waited} the signal {step.detail!r}{without}", step.id, since, until, remedy)
        case StepKind.INVOKE:
            text = f"{waited} the run of {step.detail!r} that it invoked{ends}"
            return Why(WhyCode.CHILD, text, step.id, since, until)
    if known.limit and known.limit.step == step.id:
        text = limit_text(name, known.limit, local_time)
        return Why(WhyCode.LIMIT, text, step.id, since, remedy=limit_remedy(known.limit))
    queue = queue_of(step.kind, step.detail)
    if step.status == StepStatus.RETRYING and until > now_ms:
        text = f"attempt {step.attempts + 1} of {name} is due at {_time(until, now_ms)}{_after(step.error)}"
        return Why(WhyCode.RETRY, text, step.id, since, until)
    attempts = step.attempts + (step.status != StepStatus.RUNNING)
    what = f"attempt {attempts} of {name}" if step.attempts else name
    return _worker(what, step.id, run, queue, step.heartbeat_at or until or since, known)


def _worker(what: str, step: str, run: RunView, queue: str, since: int, known: Surroundings) -> Why:
    """Return the reason of what a worker has, or should have."""
    if missing := _code(what, step, run, queue, since, known.function):
        return missing
    name = workers_name(run.app, queue)
    match known.workers.get(name):
        case 0:
            option = f" --queue {queue}" if queue else ""
            remedy = f"start one with `stepstream worker FILE{option}`"
            text = f"{what} waits for a worker of {name}, and none is running"
            return Why(WhyCode.NO_WORKER, text, step, since, remedy=remedy)
        case None:
            remedy = f"if that is long ago, check the workers of {name}, their logs, and {_METRIC}"
        case count:
            remedy = f"running workers of {name}: {count}; see their logs and {_METRIC}"
    return Why(WhyCode.WORKER, f"{what} runs on a worker of {name}, or waits for one", step, since, remedy=remedy)


def _code(
    what: str, step: str, run: RunView, queue: str, since: int, function: FunctionRegistered | None
) -> Why | None:
    """Return the reason if no worker, or not every worker, has the code that a run needs."""
    remedy = "deploy its code again, or cancel the run"
    if function and function.retired:
        text = f"{what} waits for its code: the latest release of app {run.app!r} has no function {run.function!r}"
        return Why(WhyCode.MISSING_CODE, text, step, since, remedy=remedy)
    if function and queue and queue not in function.queues:
        text = f"{what} waits for the queue {queue!r}, which the latest release of app {run.app!r} does not have"
        return Why(WhyCode.MISSING_CODE, text, step, since, remedy=f"add it to App(queues=), or {remedy}")
    again = f"; it is tried again after at most {POSTPONE_MS_MAX // MINUTE_MS} min"
    if missing_code(run.app, run.function) in run.warnings:
        text = f"{what} waits for its code, or runs again: a worker of app {run.app!r} had no function {run.function!r}"
        return Why(WhyCode.MISSING_CODE, text + again, step, since, remedy="end the workers of other releases")
    if any(warning.startswith(unfit_code(run.function)) for warning in run.warnings):
        text = f"{what} waits for code that fits its history, or runs again: a worker had code that does not"
        return Why(WhyCode.MISSING_CODE, text + again, step, since, remedy="deploy code that fits, or cancel the run")
    return None


def awaited(detail: str, own: Json) -> str:
    """Return the events that a step waits for, with the values of the run's `own` event that they must match."""
    words, several = read_several(detail)
    if several:
        return f"the {words} " + "; ".join(f"{name}: {_awaited_event(text, own)}" for name, text in several)
    return f"the event {_awaited_event(detail, own)}"


def _awaited_event(text: str, own: Json) -> str:
    event, _, condition = text.partition(" ")
    if not condition:
        return repr(event)
    if not condition.startswith(("async.", "event.")) and " " not in condition:
        if own is None:
            return f"{event!r} with the same {condition}"
        return f"{event!r} with {condition} = {_json(_lookup(own, condition))}"
    paths = dict.fromkeys(found[1:] for found in _OWN_REFERENCE.findall(condition) if own is not None)
    values = ", ".join(f"event.{path} = {_json(_lookup(own, path))}" for path in paths)
    return f"{event!r} if {condition}" + (f" ({values})" if values else "")


def _lookup(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _after(error: Json) -> str:
    """Return the error of the last attempt as the end of a sentence."""
    return f", after {error.get('name')}: {error.get('message')}".partition("\n")[0] if isinstance(error, dict) else ""


def _last_moved(run: RunView) -> int:
    """Return when a run could last start or continue: one that has woken waits since the result that woke it."""
    return max([run.accepted_at, run.started_at, run.retry_at, *map(_latest, run.steps)])


def _latest(step: StepView) -> int:
    return max(step.first_at, step.ended_at)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
