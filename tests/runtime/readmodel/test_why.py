"""Why an open run does not continue: by its steps, by its workers, by its code and by its shard."""

from dataclasses import replace
from typing import Any

import pytest

from stepstream.contract.codec import Json
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.gates import GateRule
from stepstream.contract.text.wording import missing_code, unfit_code
from stepstream.runtime.overview import RunningWorker, ScopeChangeView, ScopePauseView, ShardView
from stepstream.runtime.readmodel.views import RunView, StepView
from stepstream.runtime.readmodel.why import (
    REASONS_MAX,
    Surroundings,
    Why,
    at_once_text,
    local_time,
    surroundings_of,
    why_open,
)

BEGAN, NOW = 1_767_225_600_000, 1_767_225_700_000
RUN_ID = "01KDVDNA00ZP0GFMQQFK8ZDFSF"
RUN = RunView(RUN_ID, "pay", "shop", "running", BEGAN, BEGAN, 0, [], None, "", (), 0, 0, 0, "", {}, "", None, None)
RENDER = StepView("h", "render", "run", "waiting", 0, BEGAN + 5, 0, 0, 0, "queue gpu", None, None, False)
KNOWN = FunctionRegistered("pay", "shop", queues=("gpu",))


def whys(*steps: StepView, known: Surroundings | None = None, **run: Any) -> list[Why]:
    """Return the reasons of a run with these steps."""
    return why_open(replace(RUN, steps=steps, **run), NOW, known or Surroundings())


def why(*steps: StepView, known: Surroundings | None = None, **run: Any) -> Why:
    """Return the only reason."""
    (found,) = whys(*steps, known=known, **run)
    return found


def test_an_ended_run_has_no_reason() -> None:
    """Only an open run waits."""
    assert whys(status="completed") == []


def test_a_paused_run_waits_for_its_end() -> None:
    """The reason has who paused it, why and until when; what its steps wait for does not matter meanwhile."""
    pause: dict[str, Json] = {"since": BEGAN, "until": 0, "by": "ann", "why": "bank is down"}
    found = why(RENDER, paused=pause)
    assert (found.code, found.since, found.until) == ("paused", BEGAN, 0)
    assert found.text == f"It was paused by ann at {local_time(BEGAN)}: bank is down."
    assert found.remedy.startswith(f"Resume it with `stepstream runs resume {RUN_ID}`")
    found = why(status="scheduled", paused=pause | {"until": NOW, "by": "", "why": ""})
    since = f"It was paused by an operator at {local_time(BEGAN)}"
    assert (found.until, found.text) == (NOW, f"{since} until {local_time(NOW)}.")
    later = why(paused=pause | {"until": NOW + 90_000, "why": "Stop!"})
    assert later.text.endswith(f" until {local_time(NOW + 90_000)} (in 1m 30s): Stop!")


def test_a_queued_run_waits_for_its_limits() -> None:
    """If the shard of the limit does not answer, the reason has all limits of the function."""
    rules = (GateRule("concurrency of function pay", 5), GateRule("db", 1))
    found = why(status="queued", known=Surroundings(function=replace_registration(gates=rules)))
    assert found.code == "limit"
    limits = "concurrency of function pay: 5 runs at a time and db: 1 run at a time"
    since = f"(since {local_time(BEGAN)})"
    assert found.text == f"It waits for a limit on the runs of its function: {limits} {since}."
    assert found.remedy.endswith("`function:pay status:running`.")


def test_a_timeout_is_the_last_reason() -> None:
    """A run says when it is cancelled: if its code has not started, or, once that has, if the run has not ended."""
    deadline: dict[str, Json] = {"at": NOW + 5_000, "timeout": "start", "expired": False}
    worker, limit = whys(deadline=deadline)
    assert (worker.code, limit.code, limit.until) == ("worker", "timeout", NOW + 5_000)
    assert limit.text == f"A timeout cancels it at {local_time(NOW + 5_000)} (in 5.0 s) if its code has not started."
    sleeps = [replace(RENDER, id=f"nap {number}", kind="sleep", until=NOW + 1) for number in range(1_000)]
    found = whys(*sleeps, deadline=deadline | {"timeout": "finish"})
    assert len(found) == REASONS_MAX
    assert found[-1].text == f"A timeout cancels it at {local_time(NOW + 5_000)} (in 5.0 s) if it has not ended."


def test_an_expired_run_waits_for_running_bodies() -> None:
    """Nothing else that its steps wait for matters, as nothing further starts; its shard still does."""
    deadline: Json = {"at": NOW + 5_000, "timeout": "finish", "expired": True}
    found = why(RENDER, deadline=deadline)
    assert (found.code, found.until) == ("timeout", NOW + 5_000)
    assert found.text == (
        "It has exceeded its finish timeout, and waits only for the bodies that are running; "
        f"it is cancelled at {local_time(NOW + 5_000)} (in 5.0 s) at the latest."
    )
    known = Surroundings(shard=ShardView(3, "", "no running engine serves it"))
    assert [each.code for each in whys(RENDER, deadline=deadline, known=known)] == ["shard", "timeout"]


def test_a_run_without_an_open_step_is_with_a_worker() -> None:
    """The reason says since when, and what to look at: the start of the run, or the end of its latest step."""
    found = why()
    assert (found.code, found.since) == ("worker", BEGAN)
    since = f"(since {local_time(BEGAN)})"
    assert found.text == f"Its code, or the body of a step, runs on a worker of shop, or waits for one {since}."
    assert "check the workers of shop, their logs, and stepstream_worker_lag_records." in found.remedy
    assert why(replace(RENDER, status="completed", ended_at=BEGAN + 60_000)).since == BEGAN + 60_000


def test_a_dispatched_step_names_the_workers_of_its_queue() -> None:
    """Its body waits for a worker of the queue, or runs in one."""
    found = why(RENDER)
    assert (found.code, found.step, found.since) == ("worker", "render", BEGAN + 5)
    assert found.text.startswith("Step 'render' runs on a worker of shop.gpu, or waits for one")


def test_an_attempt_waits_for_its_time_and_then_for_a_worker() -> None:
    """Before its time the reason has the time and the last error; afterwards a worker has it."""
    error: Json = {"name": "IOError", "message": "no card\nreader", "stack": ""}
    retrying = replace(RENDER, detail="", status="retrying", attempts=2, until=NOW + 1, error=error)
    found = why(retrying)
    assert (found.code, found.until) == ("retry", NOW + 1)
    assert found.text.startswith("Attempt 3 of step 'render' is due at 20")
    assert found.text.endswith(" (in 1 ms), after IOError: no card.")
    due = why(replace(retrying, until=NOW))
    assert (due.code, due.since) == ("worker", NOW)
    assert due.text.startswith("Attempt 3 of step 'render' runs on a worker of shop, or waits for one")


def test_a_missing_worker_comes_with_the_command() -> None:
    """If the number of workers is known, the reason states it and does not ask."""
    down = why(known=Surroundings({"shop": 0}))
    assert (down.code, down.remedy) == ("no-worker", "Start one with `stepstream worker FILE`.")
    assert down.text.startswith(
        "Its code, or the body of a step, waits for a worker of shop, and none is running (since"
    )
    down = why(RENDER, known=Surroundings({"shop": 2, "shop.gpu": 0}))
    assert (down.code, down.remedy) == ("no-worker", "Start one with `stepstream worker FILE --queue gpu`.")
    up = why(known=Surroundings({"shop": 2}))
    assert (up.code, up.remedy.partition(";")[0]) == ("worker", "Running workers of shop: 2")


def test_code_that_the_latest_release_lacks_is_missing() -> None:
    """A function that was removed, or a queue, comes before the number of workers: more of them would not help."""
    gone = Surroundings({"shop": 0}, replace_registration(retired=True))
    assert why(known=gone).code == "missing-code"
    assert why(known=gone).text.endswith(
        f"the latest release of app 'shop' has no function 'pay' (since {local_time(BEGAN)})."
    )
    without = why(RENDER, known=Surroundings({"shop.gpu": 0}, replace_registration(queues=())))
    assert without.code == "missing-code"
    assert "waits for the queue 'gpu', which the latest release of app 'shop' does not have" in without.text
    assert why(RENDER, known=Surroundings({"shop.gpu": 1}, KNOWN)).code == "worker"


def replace_registration(**changes: Any) -> FunctionRegistered:
    """Return another registration of the function."""
    return FunctionRegistered(**{"id": "pay", "app": "shop", "queues": ("gpu",), **changes})


@pytest.mark.parametrize(
    ("warning", "says"),
    [
        (missing_code("shop", "pay"), "a worker of app 'shop' had no function 'pay'"),
        (f"{unfit_code('pay')}step 2 differs; deploy", "a worker had code that does not"),
    ],
)
def test_a_worker_that_reported_no_fitting_code_is_named(warning: str, says: str) -> None:
    """The warning stays after the code was deployed, so the reason says that the run may run again."""
    found = why(warnings=("other", warning), known=Surroundings({"shop": 1}, KNOWN))
    assert found.code == "missing-code"
    assert says in found.text
    assert "or runs again" in found.text
    assert "after at most 10 min" in found.text
    sleeping = replace(RENDER, kind="sleep", until=NOW + 1)
    assert why(sleeping, warnings=(warning,)).code == "sleep"


def test_a_shard_that_is_not_served_comes_first() -> None:
    """Nothing continues without it, also at the time that the run waits for."""
    known = Surroundings(shard=ShardView(3, "", "no running engine serves it"))
    shard, sleep = whys(replace(RENDER, kind="sleep", until=NOW + 1), known=known)
    assert (shard.code, sleep.code) == ("shard", "sleep")
    assert shard.text == "Its shard 3 processes no records: no running engine serves it."
    assert why(status="scheduled", known=Surroundings(shard=ShardView(3, "a", ""))).code == "scheduled"


def test_surroundings_are_those_of_the_run() -> None:
    """The registration is that of its function, and the shard the one that its id belongs to."""

    class Seen:
        """An engine with two functions and five shards."""

        def functions(self) -> list[FunctionRegistered]:
            return [FunctionRegistered("other", "shop"), KNOWN]

        def pauses(self) -> list[ScopePauseView]:
            return []

        def pause_changes(self, scope: str) -> list[ScopeChangeView]:  # noqa: ARG002 - the port names it
            return []

        def shards(self) -> list[ShardView]:
            return [ShardView(at, "a", "") for at in range(5)]

    known = surroundings_of(RUN, Seen(), {"shop": [RunningWorker("r1"), RunningWorker()]})
    assert (known.workers, known.function, known.shard) == ({"shop": 2}, KNOWN, ShardView(1, "a", ""))


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        ("wait", "landed data.id", "the event 'landed' with data.id = 7"),
        ("wait", "landed event.data.id == async.data.id", "the event 'landed' if event.data.id == async.data.id"),
        ("signal", "go", "the signal 'go'"),
        ("signal", "approval/r/s", "a person's decision"),
        ("invoke", "child", "the run of 'child' that it invoked"),
    ],
)
def test_a_wait_says_since_when_for_what_and_until_when(kind: str, detail: str, said: str) -> None:
    """One sentence has the start and what ends it; a second one has the end and the time that is left."""
    waits = replace(RENDER, kind=kind, detail=detail, until=NOW + 3_600_000)
    without = "" if kind == "invoke" else ", and the run continues without it"
    since, end = local_time(BEGAN + 5), f"The wait ends at {local_time(NOW + 3_600_000)} (in 1h 0m){without}."
    found = why(waits, events=[{"name": "go", "data": {"id": 7}}])
    assert found.text.startswith(f"Step 'render' has waited since {since} for {said}")
    assert found.text.endswith(f". {end}")
    endless = why(replace(waits, until=0), events=[{"name": "go", "data": {"id": 7}}])
    assert "The wait ends" not in endless.text
    sleep = why(replace(waits, kind="sleep", until=NOW + 500))
    assert sleep.text == f"Step 'render' has slept since {since}. It wakes at {local_time(NOW + 500)} (in 500 ms)."


def test_an_approval_says_where_to_decide() -> None:
    """It is a signal inside, which no person needs to know."""
    found = why(replace(RENDER, kind="signal", detail="approval/r/s"))
    assert found.code == "approval"
    assert f"stepstream approvals approve {RUN.run_id}" in found.remedy
    assert "stepstream signal" not in found.remedy


def test_several_steps_are_counted_above_their_reasons() -> None:
    """One step, or code between steps, has no such line."""
    assert at_once_text(each.step for each in whys(RENDER, replace(RENDER, id="other"))) == "2 steps wait at once:"
    assert at_once_text(each.step for each in whys(RENDER)) == ""
    assert at_once_text(each.step for each in whys()) == ""


def test_reasons_are_bounded() -> None:
    """A run may have thousands of open steps; the most serious reasons stay."""
    sleeps = [replace(RENDER, id=f"nap {number}", kind="sleep", until=NOW + 1) for number in range(1_000)]
    found = whys(*sleeps, RENDER)
    assert len(found) == REASONS_MAX
    assert found[0].code == "worker"
