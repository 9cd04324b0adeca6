"""The phases of a run in a worker: claims, slots, code that waits, and the end."""

import pytest

from stepstream.runtime.worker.runs.lifecycle import IllegalTransition, Life
from stepstream.runtime.worker.runs.states import Event, Phase
from tests.runtime.worker.runs.life_tables import WAYS, lead_to, life_table, play


@life_table
def test_a_fresh_run_starts_when_it_has_a_slot() -> None:
    """The first command of a run that no other worker has seen needs no claim.

    fresh                | queued held     | queue-start
    slot                 | active held     | take-slot start-code
    continued            |                 |
    body-requested       |                 | confirm-membership
    membership-confirmed |                 | start-body
    body ended           |                 |
    ended                | ending held     | report-end
    reports durable      | stopped held    | acknowledge drop
    """


@life_table
def test_a_parked_run_is_resumed_when_it_has_a_slot() -> None:
    """Its commands are acknowledged only when all that it reported is durable.

    fresh           | queued held     | queue-start
    slot            | active held     | take-slot start-code
    report          |                 |
    suspended       | suspending held |
    suspended       |                 |
    stale           |                 |
    reports durable | parked held     | acknowledge park
    suspended       |                 |
    detached        |                 |
    stale           |                 | acknowledge
    resumed         | woken held      | keep-results unpark queue-resume
    resumed         |                 | keep-results
    updated         |                 | keep-results
    stale           |                 |
    suspended       |                 |
    unloaded        |                 |
    detached        |                 |
    slot            | active held     | take-slot resume-code
    stale           |                 |
    resumed         |                 | keep-results resume-code
    updated         |                 | keep-results resume-code
    suspended       | parked held     | acknowledge park
    updated         | woken held      | keep-results unpark queue-resume
    displaced       | stopped held    | forget drop
    """


@life_table
def test_results_resume_code_whose_reports_are_not_durable() -> None:
    """It has kept its slot. Code that continues by itself does the same.

    fresh     | queued held     | queue-start
    slot      | active held     | take-slot start-code
    report    |                 |
    suspended | suspending held |
    resumed   | active held     | keep-results resume-code
    suspended | suspending held |
    updated   | active held     | keep-results resume-code
    suspended | suspending held |
    continued | active held     |
    suspended | suspending held |
    detached  | detaching held  |
    detached  |                 |
    stale     |                 |
    resumed   | active held     | keep-results resume-code
    detached  | detaching held  |
    updated   | active held     | keep-results resume-code
    detached  | detaching held  |
    continued | active held     |
    detached  | detaching held  |
    suspended | suspending held |
    ended     | ending held     | report-end
    ended     |                 |
    allowed   |                 |
    refused   |                 |
    updated   |                 |
    stale     |                 |
    stop      | stopped held    | acknowledge drop
    stop      |                 |
    """


@life_table
def test_a_parked_run_that_continues_by_itself_asks_for_a_command() -> None:
    """The log has no command for it otherwise, and no other worker would run it after a crash.

    fresh     | queued held  | queue-start
    slot      | active held  | take-slot start-code
    suspended | parked held  | acknowledge park
    continued | active held  | unpark take-slot ask-wake
    suspended | parked held  | acknowledge park
    ended     | ending held  | unpark report-end
    taken     | stopped held | reclaim
    """


@life_table
def test_a_detached_run_has_no_slot_and_no_acknowledged_command() -> None:
    """No step wakes it in another worker, so its commands must stay in the log.

    fresh           | queued held     | queue-start
    slot            | active held     | take-slot start-code
    report          |                 |
    detached        | detaching held  |
    reports durable | detached held   | detach
    detached        |                 |
    stale           |                 |
    continued       | active held     | take-slot
    detached        | detached held   | detach
    updated         | woken held      | keep-results queue-resume
    slot            | active held     | take-slot resume-code
    detached        | detached held   | detach
    resumed         | woken held      | keep-results queue-resume
    continued       | active held     | take-slot resume-code
    detached        | detached held   | detach
    suspended       | parked held     | acknowledge park
    evicted         | stopped held    | drop
    """


@life_table
def test_a_run_that_ends_while_it_waits_for_a_slot_waits_no_longer() -> None:
    """What it waited for came from outside.

    fresh           | queued held   | queue-start
    slot            | active held   | take-slot start-code
    detached        | detached held | detach
    resumed         | woken held    | keep-results queue-resume
    ended           | ending held   | withdraw report-end
    resumed         | stopped held  | reclaim
    """


@life_table
def test_a_detached_run_may_end() -> None:
    """It has no slot then.

    fresh           | queued held   | queue-start
    slot            | active held   | take-slot start-code
    detached        | detached held | detach
    ended           | ending held   | report-end
    reports durable | stopped held  | acknowledge drop
    """


@life_table
def test_code_that_cannot_be_resumed_is_dropped_when_it_suspends() -> None:
    """It is that of a plain function, or the worker keeps no code.

    fresh           | queued held    | queue-start
    slot            | active held    | take-slot start-code
    report          |                |
    unloaded        | unloading held |
    unloaded        |                |
    updated         |                |
    stale           |                |
    continued       | active held    |
    unloaded        | unloading held |
    detached        | detaching held |
    unloaded        | unloading held |
    detached        | detaching held |
    reports durable | detached held  | detach
    unloaded        | stopped held   | acknowledge drop
    """


@life_table
def test_a_result_for_code_that_cannot_be_resumed_claims_the_run() -> None:
    """The code is here only until its reports are durable.

    fresh    | queued held    | queue-start
    slot     | active held    | take-slot start-code
    report   |                |
    unloaded | unloading held |
    resumed  | stopped held   | reclaim
    """


@life_table
def test_code_that_cannot_be_resumed_may_end_after_it_waited() -> None:
    """Without a cache, async code that waits is still here until its reports are durable.

    fresh     | queued held    | queue-start
    slot      | active held    | take-slot start-code
    report    |                |
    unloaded  | unloading held |
    ended     | ending held    | report-end
    lost      | stopped held   | forget drop
    """


@life_table
def test_code_may_end_while_it_waits_on_external_work() -> None:
    """Its earlier reports need not be durable.

    fresh    | queued held    | queue-start
    slot     | active held    | take-slot start-code
    report   |                |
    detached | detaching held |
    ended    | ending held    | report-end
    stop     | stopped held   | acknowledge drop
    """


@life_table
def test_a_run_that_another_worker_may_have_started_is_claimed() -> None:
    """Commands that are read before the answer change nothing: the answer has all of it.

    delivered | claiming held | claim
    resumed   |               |
    updated   |               |
    taken     |               |
    stale     |               |
    granted   | queued held   | queue-start
    stale     |               |
    slot      | active held   | take-slot start-code
    stop      | stopped held  | acknowledge drop
    """


@life_table
def test_a_queued_run_that_is_outdated_is_claimed_when_it_has_a_slot() -> None:
    """Its memory would be occupied twice otherwise.

    resumed | claiming held | claim
    granted | queued held   | queue-start
    resumed | outdated held |
    resumed |               |
    updated |               |
    taken   |               |
    stale   |               |
    slot    | claiming held | claim
    granted | queued held   | queue-start
    taken   | outdated held |
    slot    | claiming held | claim
    granted | queued held   | queue-start
    updated | outdated held |
    displaced | stopped held | forget drop
    """


@life_table
def test_a_draining_worker_starts_no_queued_run() -> None:
    """Its commands are those of the next worker.

    fresh     | queued held      | queue-start
    drain     | queued draining  |
    displaced | stopped draining | forget drop
    """


@life_table
def test_a_run_without_its_function_is_postponed() -> None:
    """It needs no slot for that. A claim that is granted meanwhile is made again.

    unrunnable | ending held  | postpone
    taken      | stopped held | reclaim
    """


@life_table
def test_a_claimed_run_without_its_function_is_postponed() -> None:
    """The release of this worker may not have the function yet, or no longer.

    taken           | claiming held | claim
    unrunnable      | ending held   | postpone
    reports durable | stopped held  | acknowledge drop
    """


@life_table
def test_a_stop_of_an_unknown_run_is_acknowledged() -> None:
    """The run has ended.

    stop | stopped held | acknowledge drop
    """


@life_table
def test_an_update_of_an_unknown_run_is_acknowledged() -> None:
    """Another command follows that wakes the run.

    updated | stopped held | acknowledge drop
    """


@pytest.mark.parametrize("phase", WAYS)
def test_a_stop_drops_a_run_in_any_phase(phase: Phase) -> None:
    """The engine has nothing more to do for it, whatever its code does."""
    assert play(lead_to(phase), "stop") == ["acknowledge", "drop"]


@pytest.mark.parametrize("phase", [phase for phase in WAYS if phase not in (Phase.LEAVING, Phase.RETURNING)])
def test_a_claim_of_another_worker_is_answered_by_one_of_ours(phase: Phase) -> None:
    """That claim is of a worker that is gone: this worker reads the partition. A claim of ours is repeated at most."""
    claims = phase not in (Phase.CLAIMING, Phase.QUEUED, Phase.OUTDATED)
    assert play(lead_to(phase), "taken") == (["reclaim"] if claims else [])


def test_an_event_that_cannot_happen_names_run_state_and_event() -> None:
    """Such an event is a bug of the worker."""
    life = Life("01ARUN")
    with pytest.raises(IllegalTransition, match="run 01ARUN: ended cannot happen to a run that is absent and held"):
        life.on(Event.ENDED)
