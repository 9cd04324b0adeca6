"""Seeded bugs: each is an edit of the source that the simulation must detect."""

from tests.sim.cancel_mutants import CANCEL_MUTANTS, CHILD_MUTANTS, TIMEOUT_MUTANTS
from tests.sim.gate_mutants import GATE_MUTANTS
from tests.sim.heartbeat_mutants import HEARTBEAT_MUTANTS
from tests.sim.mutation import Mutant
from tests.sim.pause_mutants import PAUSE_MUTANTS

_KEPT_LAYER = "_KEPT.setdefault((id(self._clock), self._shard), Layer(self._view))"
_BEGIN = "        await self._log.begin()\n"
_ANSWER = """        if self._answer:
            for reply in batch.replies:
                self._answer(reply.to, reply.status)
"""

_RAN = "                result = await self._attempts.run(run.function, run.run_id, call, beat)\n"
_MOVING = "        await self._commands.commit()\n\n    async def moved"
_LEAVE = "            await self._commands.commit()\n            await self._log.leave()\n"

# Bugs in how workers lease and return runs, which need a second worker to show.
LEASE_MUTANTS = tuple(
    Mutant(name, f"runtime/worker/{module}.py", edits, workers=2)
    for name, module, edits in (
        (
            "the lease of a run that leaves is not released",
            "runs/lifecycle",
            (
                (
                    "_to(Phase.RETURNING, Effect.STOP_CODE, Effect.RELEASE_LEASE)",
                    "_to(Phase.RETURNING, Effect.STOP_CODE)",
                ),
            ),
        ),
        (
            "the lease of a run that stays is not released",
            "runs/lifecycle",
            (("Event.KEPT: _to(Ownership.HELD, Effect.RELEASE_LEASE),", "Event.KEPT: _to(Ownership.HELD),"),),
        ),
        (
            "a lease is released twice",
            "runs/lifecycle",
            (("Effect.STOP_CODE, Effect.RELEASE_LEASE)", "Effect.STOP_CODE, *2 * (Effect.RELEASE_LEASE,))"),),
        ),
        (
            "a lease is released before the report of the body is durable",
            "worker",
            ((_RAN, _RAN + "                self._end_body(run)\n                run.life.bodies += 1\n"),),
        ),
        (
            "a running body is not leased when partitions move",
            "consumer",
            (
                (
                    "        await self._leases.report(Event.LEASE)\n" + _MOVING,
                    _MOVING,
                ),
            ),
        ),
        (
            "a draining worker leaves its group without leases",
            "consumer",
            (("            await self._leases.report(Event.LEASE)\n" + _LEAVE, _LEAVE),),
        ),
        (
            "a run stays after its partition was revoked",
            "runs/lifecycle",
            (("Event.REVOKED: _to(Ownership.HELD, passes=Event.LOST),", "Event.REVOKED: _to(Ownership.HELD),"),),
        ),
        (
            "a body starts without a confirmed membership",
            "runs/lifecycle",
            (
                (
                    "Event.BODY_REQUESTED: _to(Ownership.HELD, Effect.CONFIRM),",
                    "Event.BODY_REQUESTED: _to(Ownership.HELD, passes=Event.ALLOWED),",
                ),
            ),
        ),
        (
            "a body starts while the group reassigns partitions",
            "runs/lifecycle",
            (
                (
                    "Event.BODY_REQUESTED: _to(Ownership.MOVING, Effect.CONFIRM),",
                    "Event.BODY_REQUESTED: _to(Ownership.MOVING, passes=Event.ALLOWED),",
                ),
            ),
        ),
        (
            "a body starts in a worker that lost the partition",
            "runs/lifecycle",
            (
                (
                    "Event.BODY_REQUESTED: _to(Ownership.AWAY, passes=Event.REFUSED),",
                    "Event.BODY_REQUESTED: _to(Ownership.AWAY, passes=Event.ALLOWED),",
                ),
            ),
        ),
        (
            "a run whose partition came back is not claimed again",
            "runs/lifecycle",
            (
                (
                    "Event.DURABLE: _to(Ownership.BACK, passes=Event.RECLAIMED),",
                    "Event.DURABLE: _to(Ownership.BACK, passes=Event.FINISHED),",
                ),
            ),
        ),
        (
            "the grant of another claim starts a run",
            "worker",
            (("case RunLoaded() if run.claim and run.claim == command.claim:", "case RunLoaded() if run.claim:"),),
        ),
        (
            "offsets of revoked partitions are committed",
            "consumer",
            (("        self._commands.keep(kept)\n", ""),),
        ),
        (
            "the lease of a run that leaves a draining worker is not released",
            "runs/lifecycle",
            (("Effect.FORGET, passes=Event.RETURNED),", "Effect.FORGET, passes=Event.SETTLED),"),),
        ),
        (
            "a draining worker starts bodies",
            "runs/lifecycle",
            (
                (
                    "Event.BODY_REQUESTED: _to(Ownership.DRAINING, passes=Event.REFUSED),",
                    "Event.BODY_REQUESTED: _to(Ownership.DRAINING, passes=Event.ALLOWED),",
                ),
            ),
        ),
        (
            "a run that leaves a draining worker is acknowledged",
            "runs/lifecycle",
            (
                (
                    "Event.QUIESCENT: _to(Ownership.RETIRING, Effect.FORGET, passes=Event.RETURNED),",
                    "Event.QUIESCENT: _to(Ownership.RETIRING, Effect.ACKNOWLEDGE, passes=Event.RETURNED),",
                ),
            ),
        ),
    )
)

MUTANTS = (
    *LEASE_MUTANTS,
    *PAUSE_MUTANTS,
    *CANCEL_MUTANTS,
    *TIMEOUT_MUTANTS,
    *CHILD_MUTANTS,
    *GATE_MUTANTS,
    *HEARTBEAT_MUTANTS,
    Mutant(
        "rows are written before the commit",
        "runtime/shard/loop.py",
        ((_BEGIN, "        self._store.write(rows, self._store.open())\n" + _BEGIN),),
    ),
    Mutant(
        "offsets are not stored",
        "runtime/shard/loop.py",
        (("for at, offset in batch.offsets.items():", "for at, offset in ():"),),
    ),
    Mutant(
        "offsets are stored before the commit",
        "runtime/shard/loop.py",
        ((_BEGIN, "        self._store.write(rows[len(batch.rows) :], self._store.open())\n" + _BEGIN),),
    ),
    Mutant(
        "outputs are sent outside the transaction",
        "runtime/embedded/log.py",
        (
            (
                "self._staged.records += records\n",
                "self.journal.write(JournalWrite(list(records)), self.clock.now_ms())\n",
            ),
        ),
    ),
    Mutant("replies are sent before the commit", "runtime/shard/loop.py", ((_ANSWER, ""), (_BEGIN, _ANSWER + _BEGIN))),
    Mutant(
        "a report is applied twice",
        "engine/runs/steps.py",
        (
            (
                "if run is None or draft.memo(report.run_id, report.step):\n        return\n    run = replace(run, own",
                "if run is None:\n        return\n    run = replace(run, own",
            ),
        ),
    ),
    Mutant(
        "the epoch is ignored", "engine/runs/runs.py", (("if run is None or run.epoch != epoch:", "if run is None:"),)
    ),
    Mutant(
        "timers fire early",
        "engine/transition.py",
        (("if timer_due(key) > now:", "if timer_due(key) > now + 3_600_000:"),),
    ),
    Mutant(
        "a timer is kept after it has fired",
        "engine/transition.py",
        # The timer of an expiry arms itself again, and would fire forever within one pass if it were kept.
        (
            (
                "    draft.delete(tick.timer)\n    if timer.first_due",
                '    if timer.kind.endswith("-expiry"):\n        draft.delete(tick.timer)\n    if timer.first_due',
            ),
        ),
        program="parallel",
    ),
    Mutant(
        "the timer of a finished step is kept",
        "engine/runs/steps.py",
        (("        draft.disarm(opened.due, Timer(TimerKind.STEP, run.run_id, memo.step))\n", ""),),
    ),
    Mutant(
        "recovery is skipped",
        "runtime/shard/loop.py",
        (("self._store.write(rows, after)", "self._store.write([], after)"),),
    ),
    Mutant(
        "the overlay outlives a crash",
        "runtime/shard/loop.py",
        (
            ("_UNCHANGED_MS_MAX = ", "_KEPT: dict[tuple[int, int], Layer] = {}\n_UNCHANGED_MS_MAX = "),
            ("Layer(self._view), started_at=now, offsets", f"{_KEPT_LAYER}, started_at=now, offsets"),
            (_ANSWER, "        _KEPT.clear()\n" + _ANSWER),
        ),
    ),
    Mutant(
        "a redelivered command starts a run without a claim",
        "runtime/worker/worker.py",
        (
            (
                "return self._given(run, record, command, Event.FRESH) if fresh else",
                "return self._given(run, record, command, Event.FRESH) or",
            ),
        ),
    ),
    Mutant(
        "a command is acknowledged before its report is durable",
        "runtime/worker/worker.py",
        (("        run.add_command(record)\n", "        run.add_command(record)\n        self._acknowledge(run)\n"),),
    ),
    Mutant(
        "a draining worker acknowledges commands of runs that it abandons",
        "runtime/worker/runs/lifecycle.py",
        (("_ABANDON = _to(Phase.STOPPED, Effect.FORGET,", "_ABANDON = _to(Phase.STOPPED, Effect.ACKNOWLEDGE,"),),
    ),
    Mutant(
        "a repeated request for a rerun starts a second run",
        "engine/runs/admission.py",
        (("if not _started_before(draft, start):\n        _begin_rerun", "if draft.now:\n        _begin_rerun"),),
    ),
    Mutant(
        "the outcome of a run of a bulk operation may count twice",
        "engine/runs/bulk.py",
        (("    draft.delete(key)\n    shown = _count", "    shown = _count"),),
    ),
    Mutant(
        "a repeated request starts a bulk operation again",
        "engine/runs/bulk.py",
        (
            (
                "(bulk.shown.state == BulkState.RECEIVING and bulk.upload != started.upload)",
                "bulk.upload != started.upload",
            ),
        ),
    ),
    Mutant(
        "a bulk pause of a run has no outcome",
        "engine/runs/pauses.py",
        (('    draft.answer(request, "paused")\n', '    draft.reply(request.reply_to, "paused")\n'),),
    ),
    Mutant(
        "a bulk operation stops after its first requests",
        "engine/runs/bulk.py",
        (("    last = sent == shown.total\n", "    last = sent > 0\n"),),
    ),
    Mutant(
        "a parked run that continues by itself requests no command",
        "runtime/worker/runs/lifecycle.py",
        ((", Effect.TAKE_SLOT, Effect.ASK_WAKE)", ", Effect.TAKE_SLOT)"),),
    ),
    Mutant(
        "a run is not claimed again after a late claim of a dead worker",
        "runtime/worker/worker.py",
        (
            (
                "                return Event.TAKEN\n",
                "                return Event.STALE if run.epoch else Event.TAKEN\n",
            ),
        ),
    ),
    Mutant(
        "a queued run is not claimed again after a late claim of a dead worker",
        "runtime/worker/runs/lifecycle.py",
        (("        Event.TAKEN: _to(Phase.OUTDATED),\n", "        Event.TAKEN: _to(Phase.QUEUED),\n"),),
        program="parallel",
    ),
    Mutant(
        "code continues after a lost report",
        "runtime/worker/commands/outbox.py",
        (
            ("            if self.failed and self.failed.done():\n", "            if not run_id:\n"),
            ('            raise LogError(f"cannot write a report of run {run_id}") from error\n', ""),
        ),
    ),
    Mutant(
        "a run is suspended although it waits for no step",
        "sdk/replay/replay.py",
        (
            (
                "is_suspended = is_open and (not external or idle_s >= SUSPEND_AFTER_S)",
                "is_suspended = not external or (is_open and idle_s >= SUSPEND_AFTER_S)",
            ),
        ),
    ),
    Mutant(
        "a claim of a leased run is never granted",
        "engine/runs/leases.py",
        (("        draft.continue_later(run_routing(run_id), claim)\n", "        pass\n"),),
        workers=2,
    ),
    Mutant(
        "a fenced owner continues",
        "runtime/embedded/log.py",
        (("if self.journal.producers.get(self._producer) != self._epoch:", "if self._epoch < 0:"),),
    ),
    Mutant(
        "an event overtakes a wait that is committed and not visible yet",
        "engine/state/draft.py",
        (("later=self.shards > 1))", "later=False))"),),
    ),
    Mutant(
        "a retained event is not indexed when it arrives",
        "engine/matching/kept.py",
        (("            _index(draft, candidate, path, head.place)\n", "            pass\n"),),
    ),
    Mutant(
        "a look-back does not wait for its index",
        "engine/matching/kept.py",
        (("    return bucket, use.indexed_to is None\n", "    return bucket, True\n"),),
    ),
    Mutant(
        "an event that is no longer retained stays in the index",
        "engine/matching/kept.py",
        (("                _remove_from_index(draft, candidate, path, place)\n", "                pass\n"),),
    ),
    Mutant(
        "the first kept event of a minute is never deleted",
        "engine/matching/kept.py",
        (("until, windows.version, last.place)", "until, windows.version, head.place)"),),
    ),
    Mutant(
        "more kept events than one transition may delete stay",
        "engine/matching/kept.py",
        (("        draft.arm(due, replace(timer, after=left))\n", "        pass\n"),),
    ),
    Mutant(
        "the index of a new path stops after its first portion",
        "engine/matching/kept.py",
        (
            (
                "    if use.indexed_to is not None:\n        draft.continue_later(due.event, due)\n",
                "    if use.indexed_to is not None:\n",
            ),
        ),
    ),
    Mutant(
        "look-backs do not start when their index is complete",
        "engine/matching/kept.py",
        (("        draft.continue_later(due.event, LookBackContinued(bucket, row.wait.waiter))\n", "        pass\n"),),
    ),
    Mutant(
        "a cached bucket does not have the waits that were written since",
        "runtime/shard/loop.py",
        (("        self._view.note(batch.rows)\n", ""),),
    ),
    Mutant(
        "a wait that ended stays in the cached bucket",
        "runtime/shard/parts.py",
        (
            (
                "        if value is not None:\n            self.rows",
                "        value = value or before\n        if value:\n            self.rows",
            ),
        ),
    ),
    Mutant(
        "a wait that expires after its look-back never ends",
        "engine/matching/waits.py",
        (("    if closed.expired:\n", "    if not draft.shards:\n"),),
    ),
    Mutant(
        "a record becomes a dead letter when the tables cannot be read",
        "runtime/shard/loop.py",
        (("        except StoreError:\n            raise\n", ""),),
    ),
)
