"""The ownership of a run in a worker: partitions that move while a body is running, and workers that drain."""

import pytest

from stepstream.runtime.worker.runs.states import Phase
from tests.runtime.worker.runs.life_tables import WAYS, lead_to, life_table, play


@life_table
def test_a_run_whose_partition_stays_continues() -> None:
    """Its lease is released at once. It parks when that is durable.

    fresh                | queued held       | queue-start
    slot                 | active held       | take-slot start-code
    kept                 |                   |
    body-requested       |                   | confirm-membership
    membership-confirmed |                   | start-body
    renew                |                   |
    lease                | active moving     | lease
    lease                |                   | lease
    renew                |                   | lease
    body ended           |                   |
    suspended            | suspending moving |
    kept                 | suspending held   | release-lease
    reports durable      | parked held       | acknowledge park
    """


@life_table
def test_a_body_requested_while_partitions_move_waits_for_the_group() -> None:
    """It starts when the group has confirmed the worker, and the partition has stayed.

    fresh                | queued held   | queue-start
    slot                 | active held   | take-slot start-code
    body-requested       |               | confirm-membership
    membership-confirmed |               | start-body
    lease                | active moving | lease
    body-requested       |               | confirm-membership
    kept                 | active held   | release-lease
    membership-confirmed |               | start-body
    """


@life_table
def test_a_body_of_a_revoked_partition_ends_here_and_the_run_leaves() -> None:
    """The next body is refused. The commands are those of the other worker now.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    lease                | active moving  | lease
    revoked              | active away    | forget
    kept                 |                |
    revoked              |                |
    lease                |                | lease
    renew                |                | lease
    continued            |                |
    body-requested       | leaving away   |
    body ended           | returning away | stop-code release-lease
    reports durable      | stopped away   | forget drop
    """


@life_table
def test_a_body_refused_after_the_group_confirmed_leaves_as_well() -> None:
    """The partition was revoked while the code waited for the group.

    fresh                | queued held     | queue-start
    slot                 | active held     | take-slot start-code
    body-requested       |                 | confirm-membership
    membership-confirmed |                 | start-body
    body-requested       |                 | confirm-membership
    lease                | active moving   | lease
    revoked              | active away     | forget
    membership-confirmed | leaving away    |
    continued            |                 |
    stale                | leaving back    |
    membership-confirmed |                 |
    suspended            |                 |
    unloaded             |                 |
    detached             |                 |
    ended                | ending back     | report-end
    reports durable      | stopped back    | reclaim
    """


@life_table
def test_a_run_whose_partition_is_assigned_again_is_claimed_afterwards() -> None:
    """The commands read since were not given to its code.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    lease                | active moving  | lease
    revoked              | active away    | forget
    resumed              | active back    |
    taken                |                |
    updated              |                |
    stale                |                |
    kept                 |                |
    lease                |                | lease
    renew                |                | lease
    body-requested       | leaving back   |
    revoked              | leaving away   | forget
    updated              | leaving back   |
    body ended           | returning back | stop-code release-lease
    resumed              |                |
    reports durable      | stopped back   | reclaim
    """


@life_table
def test_the_end_of_a_run_whose_partition_was_revoked_releases_its_lease() -> None:
    """The engine does that by itself.

    fresh                | queued held   | queue-start
    slot                 | active held   | take-slot start-code
    body-requested       |               | confirm-membership
    membership-confirmed |               | start-body
    lease                | active moving | lease
    revoked              | active away   | forget
    body ended           |               |
    ended                | ending away   | report-end
    taken                | ending back   |
    revoked              | ending away   | forget
    reports durable      | stopped away  | acknowledge drop
    """


@life_table
def test_a_run_may_end_while_partitions_move() -> None:
    """No worker has to run it any longer.

    fresh                | queued held    | queue-start
    slot                 | active held    | take-slot start-code
    body-requested       |                | confirm-membership
    membership-confirmed |                | start-body
    lease                | active moving  | lease
    body ended           |                |
    ended                | ending moving  | report-end
    reports durable      | stopped moving | acknowledge drop
    """


@life_table
def test_code_of_a_revoked_partition_that_waits_leaves() -> None:
    """Its results come to the other worker.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    membership-confirmed |                  | start-body
    lease                | active moving    | lease
    body ended           |                  |
    suspended            | suspending moving |
    revoked              | returning away   | forget stop-code release-lease
    """


@life_table
def test_code_of_a_revoked_partition_that_cannot_be_resumed_leaves() -> None:
    """As code that can. A thread may be about to start a body.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    membership-confirmed |                  | start-body
    lease                | active moving    | lease
    revoked              | active away      | forget
    body ended           |                  |
    unloaded             | returning away   | stop-code release-lease
    body-requested       |                  |
    """


@life_table
def test_code_of_a_revoked_partition_that_waits_on_external_work_leaves() -> None:
    """The other worker starts it again.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    membership-confirmed |                  | start-body
    lease                | active moving    | lease
    revoked              | active away      | forget
    body ended           |                  |
    detached             | returning away   | stop-code release-lease
    """


@life_table
def test_a_draining_worker_starts_no_body() -> None:
    """Other workers read the commands of the run again.

    fresh                | queued held      | queue-start
    slot                 | active held      | take-slot start-code
    body-requested       |                  | confirm-membership
    drain                | active draining  |
    drain                |                  |
    kept                 |                  |
    membership-confirmed | stopped draining | forget drop
    """


@life_table
def test_a_draining_worker_lets_bodies_end() -> None:
    """A run whose bodies have ended may park, or end.

    fresh                | queued held       | queue-start
    slot                 | active held       | take-slot start-code
    body-requested       |                   | confirm-membership
    membership-confirmed |                   | start-body
    drain                | active draining   |
    renew                |                   |
    body ended           |                   |
    suspended            | parked draining   | acknowledge park
    continued            | active draining   | unpark take-slot ask-wake
    ended                | ending draining   | report-end
    reports durable      | stopped draining  | acknowledge drop
    """


@life_table
def test_a_draining_worker_leases_a_body_before_it_leaves_the_group() -> None:
    """The lease is released when the code needs another body.

    fresh                | queued held        | queue-start
    slot                 | active held        | take-slot start-code
    body-requested       |                    | confirm-membership
    membership-confirmed |                    | start-body
    body-requested       |                    | confirm-membership
    drain                | active draining    |
    lease                | active retiring    | lease
    lease                |                    | lease
    renew                |                    |
    drain                |                    |
    kept                 |                    |
    revoked              |                    |
    membership-confirmed | leaving retiring   |
    body-requested       |                    |
    body ended           | returning retiring | forget stop-code release-lease
    reports durable      | stopped retiring   | forget drop
    """


@life_table
def test_a_worker_may_drain_while_partitions_move() -> None:
    """The lease stays.

    fresh                | queued held       | queue-start
    slot                 | active held       | take-slot start-code
    body-requested       |                   | confirm-membership
    membership-confirmed |                   | start-body
    lease                | active moving     | lease
    drain                | active retiring   |
    """


@life_table
def test_a_worker_may_drain_after_partitions_were_revoked() -> None:
    """The end of the run is durable as before.

    fresh                | queued held     | queue-start
    slot                 | active held     | take-slot start-code
    body-requested       |                 | confirm-membership
    membership-confirmed |                 | start-body
    lease                | active moving   | lease
    revoked              | active away     | forget
    drain                | active retiring |
    body ended           |                 |
    ended                | ending retiring | report-end
    reports durable      | stopped retiring | acknowledge drop
    """


@life_table
def test_a_draining_worker_leaves_what_it_did_not_process() -> None:
    """The run is not claimed again: another worker reads the commands that came since.

    fresh                | queued held     | queue-start
    slot                 | active held     | take-slot start-code
    body-requested       |                 | confirm-membership
    membership-confirmed |                 | start-body
    lease                | active moving   | lease
    revoked              | active away     | forget
    resumed              | active back     |
    drain                | active retiring | forget
    """


@pytest.mark.parametrize("drains", [False, True])
@pytest.mark.parametrize("phase", [phase for phase in WAYS if phase not in (Phase.LEAVING, Phase.RETURNING)])
def test_a_revoked_run_without_a_lease_is_dropped_in_any_phase(phase: Phase, drains: bool) -> None:
    """The worker that reads the partition next processes its commands."""
    life = lead_to(phase)
    if drains:
        play(life, "drain")
    assert play(life, "revoked") == ["forget", "drop"]


@pytest.mark.parametrize("phase", WAYS)
def test_a_lost_run_is_dropped_in_any_phase(phase: Phase) -> None:
    """The group has expired the membership of the worker, and other workers have the run."""
    assert play(lead_to(phase), "lost") == ["forget", "drop"]
