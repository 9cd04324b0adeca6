"""Timeouts of a run in a worker: its code may end with the results of running bodies, and otherwise it is claimed."""

import pytest

from stepstream.runtime.worker.runs.states import Phase
from tests.runtime.worker.runs.life_tables import lead_to, life_table, play


@life_table
def test_code_may_end_with_the_result_of_a_running_body() -> None:
    """The run stays while the code continues, and is not claimed when its last body has ended.

    fresh                | queued held   | queue-start
    slot                 | active held   | take-slot start-code
    body-requested       |               | confirm-membership
    membership-confirmed |               | start-body
    expired              | expiring held |
    resumed              |               |
    updated              |               |
    expired              |               |
    stale                |               |
    continued            |               |
    report               |               |
    body ended           |               |
    reports durable      |               |
    ended                | ending held   | report-end
    reports durable      | stopped held  | acknowledge drop
    """


@life_table
def test_no_further_body_starts() -> None:
    """Once the code asks for one, the run is claimed when the running bodies have ended.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    expired              | expiring held  |
    body-requested       |                | confirm-membership
    membership-confirmed | reloading held |
    expired              |                |
    body ended           | stopped held   | reclaim
    """


@life_table
def test_code_that_waits_for_the_engine_is_over() -> None:
    """The run is claimed.

    fresh     | queued held   | queue-start
    slot      | active held   | take-slot start-code
    expired   | expiring held |
    suspended | stopped held  | reclaim
    """


@life_table
def test_code_that_cannot_be_resumed_is_over() -> None:
    """The run is claimed.

    fresh    | queued held   | queue-start
    slot     | active held   | take-slot start-code
    expired  | expiring held |
    unloaded | stopped held  | reclaim
    """


@life_table
def test_code_that_waits_on_external_work_is_over() -> None:
    """The run is claimed.

    fresh    | queued held   | queue-start
    slot     | active held   | take-slot start-code
    expired  | expiring held |
    detached | stopped held  | reclaim
    """


@life_table
def test_a_body_is_refused_while_its_partition_moves() -> None:
    """The run is returned when the running bodies have ended.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    expired              | expiring held  |
    lease                | expiring moving | lease
    revoked              | expiring away  | forget
    body-requested       | reloading away |
    expired              | reloading back |
    expired              |                |
    body ended           | returning back | stop-code release-lease
    """


@pytest.mark.parametrize(
    ("phase", "becomes"),
    [
        (Phase.CLAIMING, Phase.CLAIMING),
        (Phase.QUEUED, Phase.OUTDATED),
        (Phase.OUTDATED, Phase.OUTDATED),
        (Phase.SUSPENDING, Phase.RELOADING),
        (Phase.UNLOADING, Phase.RELOADING),
        (Phase.YIELDING, Phase.RELOADING),
        (Phase.DETACHING, Phase.RELOADING),
        (Phase.PARKED, Phase.STOPPED),
        (Phase.DETACHED, Phase.STOPPED),
        (Phase.WOKEN, Phase.STOPPED),
        (Phase.RETURNING, Phase.RETURNING),
    ],
)
def test_a_run_that_is_not_running_is_claimed(phase: Phase, becomes: Phase) -> None:
    """Code that is not running is dropped at once; reports on their way to the log are awaited."""
    life = lead_to(phase)
    assert play(life, "expired") == (["reclaim"] if becomes is Phase.STOPPED else [])
    assert life.phase is becomes


@life_table
def test_an_unknown_run_is_claimed() -> None:
    """The engine cancels it by the claim.

    expired | claiming held | claim
    expired |               |
    stop    | stopped held  | acknowledge drop
    """
