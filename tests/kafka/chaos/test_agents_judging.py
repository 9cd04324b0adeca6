"""The judge of agents on a cluster detects violations: each rule is broken once, without a broker."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from stepstream.client.messages import StreamMessage
from stepstream.contract.codec import Raw
from stepstream.contract.history import HistoryEntry, StepAttemptFailed, StepEnded
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Value
from tests.kafka.chaos.agents import MODEL_STEPS, TEXT, TOOL_STEPS, Call, Seen, wrong_calls, wrong_messages

FAILED = "agent/model 2"
WORKER, KILLED = 7, 6


def sound_entries() -> list[HistoryEntry]:
    """Return the history of a run."""
    ends = [StepEnded("A", 2, 20, step, step, StepKind.RUN, Value(Raw(b"1"))) for step in (*MODEL_STEPS, *TOOL_STEPS)]
    return [StepAttemptFailed("A", 1, 10, FAILED, FAILED, 0, ErrorInfo("ConnectionError"), 11), *ends]


def sound_calls() -> list[Call]:
    """Return its calls: one of them was left by a process that was killed."""
    made = [Call("A", step, 0, WORKER, 15) for step in (*MODEL_STEPS, *TOOL_STEPS)]
    return [Call("A", TOOL_STEPS[0], 0, KILLED, 14), *made, Call("A", FAILED, 1, WORKER, 16)]


def message(data: str, execution: str, number: int) -> StreamMessage[Any]:
    """Return a message of the first request."""
    return StreamMessage(f"{execution}-{number}", "A", "tokens", data, FAILED, FAILED, 0, execution, number, 0)


def test_sound_agents_pass() -> None:
    """A call of a killed process is repeated, and messages of a failed attempt are replaced."""
    assert [*wrong_calls(sound_entries(), sound_calls(), [KILLED])] == []
    seen = Seen()
    for each in (message("0/0 ", "one", 0), message("0/1 ", "one", 1), message(TEXT, "two", 0)):
        seen.take(each)
    assert [*wrong_messages(seen)] == []


@pytest.mark.parametrize(
    ("calls", "killed"),
    [
        (sound_calls(), []),
        ([*sound_calls(), sound_calls()[-1]], [KILLED]),
        (sound_calls()[:-1], [KILLED]),
        ([replace(sound_calls()[0], at=21), *sound_calls()[1:]], [KILLED]),
    ],
    ids=["repeated by a living process", "twice by one process", "not made", "made after its result"],
)
def test_wrong_calls_of_agents_are_found(calls: Sequence[Call], killed: Sequence[int]) -> None:
    """Each call is counted."""
    assert len([*wrong_calls(sound_entries(), calls, killed)]) == 1


def test_wrong_steps_of_agents_are_found() -> None:
    """Each step has its result, and only the one attempt fails that the app lets fail."""
    assert len([*wrong_calls(sound_entries()[1:], sound_calls(), [KILLED])]) == 1


@pytest.mark.parametrize(
    "messages",
    [
        [message("0/0 ", "one", 0), message(TEXT, "one", 0)],
        [message(TEXT[:9], "one", 0), message(TEXT[9:], "one", 2)],
        [message(TEXT[:9], "one", 0)],
    ],
    ids=["twice", "missing", "cut"],
)
def test_wrong_messages_of_agents_are_found(messages: Sequence[StreamMessage[Any]]) -> None:
    """Each message arrives once and in order."""
    seen = Seen()
    for each in messages:
        seen.take(each)
    assert [*wrong_messages(seen)]
