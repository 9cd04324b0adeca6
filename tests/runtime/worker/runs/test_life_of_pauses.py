"""Pauses of a run in a worker: bodies that run end, no other starts, and the run is claimed again."""

import pytest

from stepstream.runtime.worker.runs.states import Phase
from tests.runtime.worker.runs.life_tables import lead_to, life_table, play


@life_table
def test_a_run_that_is_paused_is_claimed_when_its_bodies_have_ended() -> None:
    """The claim is refused while the run is paused. The bodies that run end, and no other one starts.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    body-requested       |                | confirm-membership
    reload               | reloading held |
    membership-confirmed |                |
    continued            |                |
    resumed              |                |
    updated              |                |
    reload               |                |
    stale                |                |
    suspended            |                |
    unloaded             |                |
    detached             |                |
    report               |                |
    body ended           |                |
    reports durable      | stopped held   | reclaim
    """


@life_table
def test_a_paused_run_may_end() -> None:
    """Its code was at its end when the pause began.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    reload               | reloading held |
    ended                | ending held    | report-end
    body ended           |                |
    reports durable      | stopped held   | acknowledge drop
    """


@life_table
def test_a_run_that_is_paused_is_claimed_again_after_its_end() -> None:
    """The end may be that of an attempt, and the pause may end before its report is durable.

    fresh     | queued held  | queue-start
    slot      | active held  | take-slot start-code
    ended     | ending held  | report-end
    reload    | stopped held | reclaim
    """


@life_table
def test_a_run_of_a_paused_partition_that_moves_is_returned() -> None:
    """The worker that has the partition claims the run after its pause.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    membership-confirmed |                  | start-body
    reload               | reloading held   |
    lease                | reloading moving | lease
    revoked              | reloading away   | forget
    body-requested       |                  |
    body ended           | returning away   | stop-code release-lease
    reload               | returning back   |
    reload               |                  |
    """


@life_table
def test_an_unknown_run_is_claimed_after_its_pause() -> None:
    """The claim is granted or refused.

    reload  | claiming held | claim
    reload  |               |
    granted | queued held   | queue-start
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
def test_a_pause_has_the_run_claimed_from_any_phase(phase: Phase, becomes: Phase) -> None:
    """Code that is not running is dropped at once; reports on their way to the log are awaited."""
    life = lead_to(phase)
    assert play(life, "reload") == (["reclaim"] if becomes is Phase.STOPPED else [])
    assert life.phase is becomes
