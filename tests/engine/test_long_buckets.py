"""An event that meets very many waits wakes them bit by bit, and nobody can tell: the order of the log decides."""

from collections import deque
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import Raw, load_json
from stepstream.contract.events import EventRecord
from stepstream.contract.inbox import InboxRecord
from stepstream.contract.limits import MIB, Limits
from stepstream.contract.matching import EventMatched, EventRouted, Predicate
from stepstream.engine.matching import match_budget as meeting
from stepstream.engine.state.changes import Send
from stepstream.engine.state.rows import EventName, QueuedEvent, Wait
from stepstream.engine.transition import transition
from tests.engine.predicates import BUCKETS, wait_closed, wait_opened
from tests.fakes.tables import Tables


class Matcher:
    """One shard's matcher: what it puts off comes back by a log, behind what is there."""

    def __init__(self, at_once: int) -> None:
        self.limits = Limits(waits_per_match_max=at_once)
        self.tables = Tables()
        self.log: deque[InboxRecord] = deque()
        self.woken: dict[str, str] = {}
        self.most = 0

    def take(self, record: InboxRecord) -> None:
        """Fold a record and what follows from it at once."""
        queue: list[InboxRecord] = [record]
        while queue:
            changes = transition(self.tables, queue.pop(0), 10, limits=self.limits)
            self.tables.apply(changes)
            woken = 0
            for change in changes.changes:
                if not isinstance(change, Send):
                    continue
                sent = change.record
                if isinstance(sent, EventMatched):
                    assert sent.run_id not in self.woken
                    self.woken[sent.run_id] = sent.event.id
                    woken += 1
                elif change.later:
                    self.log.append(sent)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.
                else:
                    queue.append(sent)  # type: ignore[arg-type]  # As above.
            self.most = max(self.most, woken)

    def go_on(self, passes: int) -> None:
        """Take what was put off, so many times or until nothing is."""
        while self.log and passes:
            self.take(self.log.popleft())
            passes -= 1


WAITS = st.tuples(st.just("wait"), st.integers(0, 30), st.sampled_from(BUCKETS))
EVENTS = st.tuples(st.just("event"), st.integers(1, 2), st.integers(1, 2))
PASSES = st.tuples(st.just("pass"), st.integers(1, 3), st.none())


def play(script: list[tuple[str, int, object]], at_once: int, characters: int = 10_000) -> Matcher:
    """Play a script: waits of runs by number, events with an id and a size, and passes of the log in between."""
    with mock.patch.object(meeting, "EXPRESSION_CHARACTERS_PER_RECORD_MAX", characters):
        return play_within(script, Matcher(at_once))


def play_within(script: list[tuple[str, int, object]], matcher: Matcher) -> Matcher:
    """Play a script to its end."""
    opened = set[int]()
    for place, (what, number, more) in enumerate(script):
        if what == "wait" and number not in opened:
            opened.add(number)
            assert isinstance(more, Predicate)
            matcher.take(wait_opened(f"run{number:02}", more))
        elif what == "event":
            data = Raw(f'{{"id":{number},"big":{more}}}'.encode())
            matcher.take(EventRouted(EventRecord("come", data, f"e{place}", 5)))
        elif what == "pass":
            matcher.go_on(number)
    matcher.go_on(-1)
    return matcher


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(WAITS, WAITS, EVENTS, PASSES), max_size=40), st.integers(1, 4), st.sampled_from([0, 30, 10_000])
)
def test_waking_bit_by_bit_is_waking_at_once(
    script: list[tuple[str, int, object]], at_once: int, characters: int
) -> None:
    """Each wait is ended by the first event after it that fulfils it, however few waits one record may meet."""
    whole, cut = play(script, 1_000), play(script, at_once, characters)
    assert whole.woken == cut.woken
    rows = [
        {key: tables.get(key) for key in tables.rows if not isinstance(tables.get(key), EventName | Wait)}
        for tables in (whole.tables, cut.tables)
    ]
    assert not any(isinstance(row, QueuedEvent) for row in rows[1].values())
    assert {k for k in whole.tables.rows if k.table == b"w"} == {k for k in cut.tables.rows if k.table == b"w"}


def test_one_record_wakes_a_bounded_number_of_waits() -> None:
    """2,000 equal waits are woken by one event, at most 500 of them by one record."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(2_000):
        matcher.take(wait_opened(f"run{number:04}", BUCKETS[0]))
    matcher.take(EventRouted(EventRecord("come", Raw(b'{"id":1}'), "e", 5)))
    assert len(matcher.woken) == 500
    matcher.go_on(-1)
    assert len(matcher.woken) == 2_000
    assert matcher.most == 500


def test_a_large_event_wakes_fewer_at_once() -> None:
    """Each run that wakes gets the event: of one of half a megabyte there are 31 in a record's time, not 500."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(100):
        matcher.take(wait_opened(f"run{number:04}", BUCKETS[0]))
    text = b"x" * (512 * 1024)
    matcher.take(EventRouted(EventRecord("come", Raw(b'{"id":1,"text":"' + text + b'"}'), "e", 5)))
    matcher.go_on(-1)
    assert len(matcher.woken) == 100
    assert matcher.most == 31


def test_a_wait_that_is_closed_meanwhile_is_not_woken() -> None:
    """A wait that its run gives up before its turn comes stays asleep; those behind it are still met."""
    matcher = Matcher(1)
    for name in ("run1", "run2", "run3"):
        matcher.take(wait_opened(name, BUCKETS[4]))
    matcher.take(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
    matcher.take(wait_closed("run2", BUCKETS[4]))
    matcher.go_on(-1)
    assert set(matcher.woken) == {"run1", "run3"}


def test_waits_with_long_expressions_are_met_bit_by_bit() -> None:
    """Each may have to be parsed: of 40 different ones of 4,000 characters an event meets 17 at once, and all at last.

    One that all have is parsed once.
    """
    for count, most in ((40, 17), (1, 40)):
        matcher = Matcher(Limits().waits_per_match_max)
        for number in range(40):
            residual = f'"{"x" * 3_980}" != "{number % count:02}"'
            matcher.take(wait_opened(f"run{number:02}", Predicate(residual=residual)))
        matcher.take(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
        matcher.go_on(-1)
        assert (len(matcher.woken), matcher.most) == (40, most)


def heavy(count: int, different: int, residual: str = 'event.data.text != ""') -> Matcher:
    """Return a matcher after an event that woke so many waits, with a mebibyte of bindings each."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(count):
        bindings = Raw(f'{{"event":{{"data":{{"text":"{"x" * MIB}{number % different}"}}}}}}'.encode())
        matcher.take(wait_opened(f"run{number:02}", Predicate((), residual, bindings)))
    matcher.take(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
    matcher.go_on(-1)
    return matcher


def test_waits_with_large_bindings_are_met_bit_by_bit() -> None:
    """Each of them is read and parsed: an event meets 4 MiB of them at once, or more of those that are all the same."""
    for different, most in ((40, 4), (1, 24)):
        matcher = heavy(40, different)
        assert (len(matcher.woken), matcher.most) == (40, most)


def test_equal_bindings_are_parsed_once_in_a_record() -> None:
    """Waits of which all take along the same cost no more than one."""
    with mock.patch.object(meeting, "load_json", wraps=load_json) as parsed:
        heavy(20, 1)
    assert parsed.call_count == 1


def test_waits_whose_expressions_take_much_work_are_met_bit_by_bit() -> None:
    """What an expression takes is charged when it is known, so that one more than the bound allows is met."""
    matcher = Matcher(Limits().waits_per_match_max)
    residual = f"[{','.join('1' * 100)}].all(x, x == 1)"
    with mock.patch.object(meeting, "MATCHED_VISITS_PER_RECORD_MAX", 1_000):
        for number in range(20):
            matcher.take(wait_opened(f"run{number:02}", Predicate((), residual)))
        matcher.take(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
        matcher.go_on(-1)
    assert len(matcher.woken) == 20
    assert matcher.most < 5
