"""Runs with limits on work: code that waits for the engine is stopped, and the run is reported as parked."""

from tests.runtime.worker.runs.life_tables import life_table


@life_table
def test_code_that_waits_is_stopped_and_reported() -> None:
    """Its commands are acknowledged when the report is durable: from then on a grant of the engine wakes the run.

    fresh           | queued held   | queue-start
    slot            | active held   | take-slot start-code
    report          |               |
    yielded         | yielding held |
    stale           |               |
    yielded         |               |
    continued       | active held   |
    yielded         | yielding held |
    reports durable | ending held   | stop-code report-end
    stale           |               |
    reports durable | stopped held  | acknowledge drop
    """


@life_table
def test_news_for_code_that_was_stopped_claims_the_run() -> None:
    """The engine ignores the report if it has sent news, so the run must not be dropped.

    fresh           | queued held   | queue-start
    slot            | active held   | take-slot start-code
    yielded         | ending held   | stop-code report-end
    resumed         | stopped held  | reclaim
    """


@life_table
def test_news_before_the_report_claims_the_run() -> None:
    """No report is written for it.

    fresh   | queued held   | queue-start
    slot    | active held   | take-slot start-code
    report  |               |
    yielded | yielding held |
    resumed | stopped held  | reclaim
    """


@life_table
def test_an_update_before_the_report_claims_the_run() -> None:
    """The report would repeat the number of the news before it.

    fresh   | queued held   | queue-start
    slot    | active held   | take-slot start-code
    report  |               |
    yielded | yielding held |
    updated | stopped held  | reclaim
    """


@life_table
def test_code_that_waits_on_external_work_keeps_the_permit() -> None:
    """It is reported when it waits for the engine alone.

    fresh           | queued held    | queue-start
    slot            | active held    | take-slot start-code
    report          |                |
    yielded         | yielding held  |
    detached        | detaching held |
    yielded         | yielding held  |
    detached        | detaching held |
    reports durable | detached held  | detach
    report          |                |
    yielded         | yielding held  |
    ended           | ending held    | report-end
    reports durable | stopped held   | acknowledge drop
    """


@life_table
def test_detached_code_that_is_resumed_yields_when_it_has_a_slot() -> None:
    """Until then it does not see what it was resumed with.

    fresh           | queued held   | queue-start
    slot            | active held   | take-slot start-code
    detached        | detached held | detach
    resumed         | woken held    | keep-results queue-resume
    yielded         |               |
    slot            | active held   | take-slot resume-code
    yielded         | ending held   | stop-code report-end
    reports durable | stopped held  | acknowledge drop
    """


@life_table
def test_a_run_whose_partition_was_revoked_is_not_reported() -> None:
    """The worker that gets the run reports it.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    lease                | active moving  | lease
    revoked              | active away    | forget
    body ended           |                |
    yielded              | returning away | stop-code release-lease
    reports durable      | stopped away   | forget drop
    """


@life_table
def test_a_run_that_leaves_may_wait() -> None:
    """It is left to the next worker.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    membership-confirmed |                  | start-body
    drain                | active draining  |
    body-requested       | leaving draining |
    yielded              |                  |
    body ended           | stopped draining | forget drop
    """


@life_table
def test_a_draining_worker_reports_a_run() -> None:
    """Another worker has nothing to do for it.

    fresh           | queued held      | queue-start
    slot            | active held      | take-slot start-code
    drain           | active draining  |
    yielded         | ending draining  | stop-code report-end
    reports durable | stopped draining | acknowledge drop
    """


@life_table
def test_code_that_waits_when_its_time_has_passed_is_over() -> None:
    """The run is claimed, and the engine cancels it.

    fresh   | queued held   | queue-start
    slot    | active held   | take-slot start-code
    expired | expiring held |
    yielded | stopped held  | reclaim
    """


@life_table
def test_code_of_a_paused_run_that_waits_is_claimed() -> None:
    """The engine takes its permit at the claim.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    reload               | reloading held |
    yielded              |                |
    body ended           | stopped held   | reclaim
    """
