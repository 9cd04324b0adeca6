"""Which messages of a live stream a client shows, and the ids by which it continues."""

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.contract.live import (
    MessageOrder,
    Placing,
    Published,
    check_channel,
    current_messages,
    message_id,
    offset_after,
)

CASES = {
    "nothing is replaced in one execution": ("A0 A1 A2", "A0 A1 A2"),
    "a new attempt replaces what the failed one sent": ("A0 A1 B0", "B0"),
    "an attempt that continues beside its successor is ignored": ("A0 A1 B0 A2 B1 A3", "B0 B1"),
    "each step has its own executions": ("A0 x0 A1 B0 x1", "x0 B0 x1"),
    "a write that was repeated shows once": ("A0 A1 A0 A1 A2", "A0 A1 A2"),
    "code between steps continues after a replay": ("A0 A1 B2 C3", "A0 A1 B2 C3"),
    "a replay that sends again replaces what it repeats": ("A0 A1 A2 B1 B2 B3", "A0 B1 B2 B3"),
    "a client that comes late begins in the middle": ("A4 A5 B0 B1", "B0 B1"),
}


@pytest.mark.parametrize(("sent", "shown"), CASES.values(), ids=CASES)
def test_clients_drop_what_was_replaced(sent: str, shown: str) -> None:
    """A message is an execution and a number; small letters are those of another step."""
    messages = [
        Published("run", "c", "other" if name[0].islower() else "step", "s", 0, name[0], int(name[1:]), 0, Raw(b"1"))
        for name in sent.split()
    ]
    assert [f"{each.execution}{each.number}" for each in current_messages(messages)] == shown.split()


def test_ids_name_a_partition_and_an_offset() -> None:
    """A client continues after an id; an id of another stream or none at all is refused."""
    assert offset_after(message_id(3, 41), 3) == 42
    for wrong in ("4-41", "3", "3-", "3-x", "x", "3-" + "9" * 19, "3-²"):
        with pytest.raises(InvalidInput, match="not the id of a message of this stream"):
            offset_after(wrong, 3)


@pytest.mark.parametrize("name", ["", "x" * 257, "\ud800", 7])
def test_wrong_channels_are_refused(name: object) -> None:
    """A channel is a text of 1 to 256 characters."""
    with pytest.raises(InvalidInput, match="1 to 256 characters"):
        check_channel(name)


def test_the_steps_whose_messages_came_last_are_remembered() -> None:
    """A channel that runs share for years does not fill the memory of its clients."""
    order = MessageOrder(steps_max=2)
    placed = [
        order.place(Published(run, "c", "", "", 0, "A", number, 0, Raw(b"1")))
        for run, number in (("r1", 0), ("r2", 0), ("r1", 0), ("r3", 0), ("r1", 0), ("r2", 0))
    ]
    follows, ignored = Placing.FOLLOWS, Placing.IGNORED
    assert placed == [follows, follows, ignored, follows, ignored, follows]
