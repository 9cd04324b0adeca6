"""The waits of one activation: their work and bytes are bounded, and one beyond that fails its step."""

import pytest

from stepstream.contract.codec import Json, Raw
from stepstream.contract.commands import RunResumed
from stepstream.contract.events import EventRecord
from stepstream.contract.history import StepPlanned
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.inbox import RunRequested, StepsPlanned
from stepstream.contract.limits import EXPRESSION_CHARACTERS_PER_RECORD_MAX, PLANS_BYTES_MAX
from stepstream.contract.outcomes import Failure
from stepstream.contract.plans import WaitPlan
from stepstream.engine.state.changes import Changes, Send
from stepstream.engine.transition import transition
from stepstream.expressions import predicates
from stepstream.expressions.limits import EVALUATION_VISITS_MAX
from stepstream.expressions.syntax import Node
from stepstream.expressions.translation import translate
from tests.fakes.tables import Tables

RUN = run_id_at(1_000, run_hash("f", "1"))


def planned(conditions: list[str], data: bytes = b"{}") -> Changes:
    """Return the changes by waits with these conditions in one activation of a run whose trigger has some data."""
    tables = Tables()
    tables.apply(transition(tables, RunRequested(RUN, "f", "shop", (EventRecord("go", Raw(data)),)), 1_000))
    plans = [WaitPlan(f"{at:03}", f"{at:03}", "come", 60_000, condition=text) for at, text in enumerate(conditions)]
    return transition(tables, StepsPlanned(RUN, 1, tuple(plans)), 1_001)


def opened(changes: Changes) -> list[str]:
    """Return the steps that wait."""
    sent = [change.record for change in changes.changes if isinstance(change, Send)]
    return [entry.step for entry in sent if isinstance(entry, StepPlanned)]


def refused(changes: Changes) -> dict[str, str]:
    """Return the steps that failed at once, each with the code of its error."""
    sent = [change.record for change in changes.changes if isinstance(change, Send)]
    memos = [memo for record in sent if isinstance(record, RunResumed) for memo in record.memos]
    return {memo.step: memo.outcome.error.code for memo in memos if isinstance(memo.outcome, Failure)}


def distinct(count: int) -> list[str]:
    """Return so many distinct expressions of 4,096 characters."""
    return [f'async.data.a != "{at:03}{"x" * 4_075}"' for at in range(count)]


def test_the_expressions_of_one_activation_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen of the longest are 64 KiB: the seventeenth is not parsed, and a shorter one after it is refused too."""
    parsed: list[str] = []

    def recording(source: str) -> Node:
        parsed.append(source)
        return translate(source)

    monkeypatch.setattr(predicates, "translate", recording)
    predicates._parsed_or_not.cache_clear()
    conditions = distinct(17)
    assert {len(condition) for condition in conditions} == {4_096}
    changes = planned([*conditions, "async.data.b == 1"])
    assert opened(changes) == [f"{at:03}" for at in range(16)]
    assert refused(changes) == {"016": "expression-limit", "017": "expression-limit"}
    assert sum(map(len, parsed)) == EXPRESSION_CHARACTERS_PER_RECORD_MAX


def test_a_shared_expression_counts_once() -> None:
    """It is parsed once; so is one that is wrong."""
    assert len(opened(planned(distinct(1) * 900))) == 900
    wrong = '"' + "x" * 4_000 + '" =='
    assert set(refused(planned([wrong] * 900)).values()) == {"invalid-expression"}


def test_work_on_the_trigger_event_counts_too() -> None:
    """A short expression may need a whole budget of work; its parts share one."""
    numbers: list[Json] = list(range(200))
    loop = "!event.data.l.exists(x, event.data.l.exists(y, x + y == {}))"
    conditions = [f"{loop.format(-1 - at)} && {loop.format(-2 - at)} && async.data.a == 1" for at in range(900)]
    frozen = predicates.freeze(conditions[0], {"data": {"l": numbers}})
    assert frozen.never
    assert EVALUATION_VISITS_MAX <= frozen.visits < EVALUATION_VISITS_MAX * 1.01
    had_room = 900 - len(refused(planned(conditions, str({"l": numbers}).replace("'", '"').encode())))
    cost = len(conditions[0]) + EVALUATION_VISITS_MAX // 100
    assert abs(had_room - EXPRESSION_CHARACTERS_PER_RECORD_MAX // cost) <= 1


def test_captured_data_of_the_trigger_is_bounded() -> None:
    """A wait that compares with half a megabyte of the trigger captures it: 32 of 40 such waits fit."""
    data = b'{"big":"' + b"x" * 512 * 1024 + b'"}'
    changes = planned([f"async.data.a{at} > event.data.big" for at in range(40)], data)
    assert len(opened(changes)) == PLANS_BYTES_MAX // len(data)
    assert set(refused(changes).values()) == {"expression-limit"}
