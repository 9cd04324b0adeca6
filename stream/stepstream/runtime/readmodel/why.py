"""Why an open run does not continue: one sentence for each thing that it waits for, the most serious first."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from stepstream.contract.codec import Json
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.names import workers_name
from stepstream.runtime.readmodel.views import RunView, StepView, queue_of

_OWN_REFERENCE = re.compile(r"\bevent((?:\.[A-Za-z_]\w*)+)")
_METRIC = "stepstream_worker_lag_records"


class WhyCode(StrEnum):
    """What an open run waits for; in the order in which reasons are listed."""

    NO_WORKER = "no-worker"
    RETRY = "retry"
    WORKER = "worker"
    CHILD = "child"
    SIGNAL = "signal"
    EVENT = "event"
    SLEEP = "sleep"
    SCHEDULED = "scheduled"


_ORDER = list(WhyCode)


@dataclass(frozen=True, slots=True)
class Why:
    """A reason why a run does not continue, as a sentence; times in Unix ms, 0 if unknown.

    `step` is the id of the open step, "" for the code between steps. `remedy` says what to do, "" if time or an event
    will do it.
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


def why_open(run: RunView, now_ms: int, workers: Mapping[str, int]) -> list[Why]:
    """Return why a run does not continue; empty if it has ended.

    `workers` has the number of running workers by name; a name whose number is unknown is missing.
    """
    if run.status == RunStatus.SCHEDULED:
        return [Why(WhyCode.SCHEDULED, f"it starts at {local_time(run.started_at)}", until=run.started_at)]
    if run.status != RunStatus.RUNNING:
        return []
    if run.retry_at > now_ms:
        attempt = f"attempt {run.attempt + 1} of the code between steps is due at {local_time(run.retry_at)}"
        return [Why(WhyCode.RETRY, f"{attempt}{_after(run.error)}", until=run.retry_at)]
    still = [step for step in run.steps if step.status in OPEN_STEP_STATUSES]
    if not still:
        since = max([run.accepted_at, run.started_at, run.retry_at, *map(_latest, run.steps)])
        return [_worker("its code, or the body of a step,", "", run.app, "", since, workers)]
    found = [_of_step(step, run, now_ms, workers) for step in still]
    return sorted(found, key=lambda why: _ORDER.index(why.code))


def _of_step(step: StepView, run: RunView, now_ms: int, workers: Mapping[str, int]) -> Why:
    name, since, until = f"step {step.id!r}", step.first_at, step.until
    ends = f", at the latest until {local_time(until)}" if until else ""
    match step.kind:
        case StepKind.SLEEP:
            return Why(WhyCode.SLEEP, f"{name} sleeps until {local_time(until)}", step.id, since, until)
        case StepKind.WAIT:
            return Why(WhyCode.EVENT, f"{name} waits for the event {awaited(step, run)}{ends}", step.id, since, until)
        case StepKind.SIGNAL:
            remedy = "send the signal from this page, or with POST /v1/signals"
            return Why(
                WhyCode.SIGNAL, f"{name} waits for the signal {step.detail!r}{ends}", step.id, since, until, remedy
            )
        case StepKind.INVOKE:
            text = f"{name} waits for the run of {step.detail!r} that it invoked{ends}"
            return Why(WhyCode.CHILD, text, step.id, since, until)
    queue = queue_of(step.kind, step.detail)
    if step.status == StepStatus.RETRYING and until > now_ms:
        text = f"attempt {step.attempts + 1} of {name} is due at {local_time(until)}{_after(step.error)}"
        return Why(WhyCode.RETRY, text, step.id, since, until)
    what = f"attempt {step.attempts + 1} of {name}" if step.attempts else name
    return _worker(what, step.id, run.app, queue, until or since, workers)


def _worker(what: str, step: str, app: str, queue: str, since: int, workers: Mapping[str, int]) -> Why:
    name = workers_name(app, queue)
    match workers.get(name):
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


def awaited(step: StepView, run: RunView) -> str:
    """Return the event that a step waits for, with the values of the run's own event that it must match."""
    event, _, condition = step.detail.partition(" ")
    if not condition:
        return repr(event)
    own = run.events[0] if isinstance(run.events, list) and run.events else None
    if not condition.startswith(("async.", "event.")) and " " not in condition:
        return f"{event!r} with {condition} = {_json(_lookup(own, condition))}"
    paths = dict.fromkeys(found[1:] for found in _OWN_REFERENCE.findall(condition))
    values = ", ".join(f"event.{path} = {_json(_lookup(own, path))}" for path in paths)
    return f"{event!r} if {condition}" + (f" ({values})" if values else "")


def _lookup(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _after(error: Json) -> str:
    """Return the error of the last attempt as the end of a sentence."""
    return f", after {error.get('name')}: {error.get('message')}".partition("\n")[0] if isinstance(error, dict) else ""


def _latest(step: StepView) -> int:
    return max(step.first_at, step.ended_at)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
