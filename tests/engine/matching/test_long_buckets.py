"""An event that matches many waits ends them over several batches, with the same result as in one."""

from collections import deque
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import Raw, load_json
from stepstream.contract.events import EventRecord
from stepstream.contract.inbox import InboxRecord
from stepstream.contract.limits import MIB, Limits
from stepstream.contract.matching import EventMatched, EventRouted, Predicate
from stepstream.engine.matching import match_budget
from stepstream.engine.state.changes import Send
from stepstream.engine.state.rows import EventName, QueuedEvent, Wait
from stepstream.engine.transition import transition
from tests.engine.matching.predicates import BUCKETS, wait_closed, wait_opened
from tests.fakes.tables import Tables


class Matcher:
    """One shard, and the log by which it continues its work."""

    def __init__(self, at_once: int) -> None:
        self.limits = Limits(waits_per_match_max=at_once)
        self.tables = Tables()
        self.log: deque[InboxRecord] = deque()
        self.ended: dict[str, str] = {}
        self.most = 0

    def apply(self, record: InboxRecord) -> None:
        """Apply a record and those that follow from it in the same batch."""
        queue: list[InboxRecord] = [record]
        while queue:
            changes = transition(self.tables, queue.pop(0), 10, limits=self.limits)
            self.tables.apply(changes)
            ended = 0
            for change in changes.changes:
                if not isinstance(change, Send):
                    continue
                sent = change.record
                if isinstance(sent, EventMatched):
                    assert sent.run_id not in self.ended
                    self.ended[sent.run_id] = sent.event.id
                    ended += 1
                elif change.later:
                    self.log.append(sent)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.
                else:
                    queue.append(sent)  # type: ignore[arg-type]  # As above.
            self.most = max(self.most, ended)

    def run(self, passes: int) -> None:
        """Apply so many records of the log, or all of them with -1."""
        while self.log and passes:
            self.apply(self.log.popleft())
            passes -= 1


WAITS = st.tuples(st.just("wait"), st.integers(0, 30), st.sampled_from(BUCKETS))
EVENTS = st.tuples(st.just("event"), st.integers(1, 2), st.integers(1, 2))
PASSES = st.tuples(st.just("pass"), st.integers(1, 3), st.none())


def play(script: list[tuple[str, int, object]], at_once: int, characters: int = 10_000) -> Matcher:
    """Play a script: waits of runs by number, events with an id and a size, and passes of the log in between."""
    with mock.patch.object(match_budget, "EXPRESSION_CHARACTERS_PER_RECORD_MAX", characters):
        return play_within(script, Matcher(at_once))


def play_within(script: list[tuple[str, int, object]], matcher: Matcher) -> Matcher:
    """Play a script to its end."""
    opened = set[int]()
    for place, (what, number, more) in enumerate(script):
        if what == "wait" and number not in opened:
            opened.add(number)
            assert isinstance(more, Predicate)
            matcher.apply(wait_opened(f"run{number:02}", more))
        elif what == "event":
            data = Raw(f'{{"id":{number},"big":{more}}}'.encode())
            matcher.apply(EventRouted(EventRecord("come", data, f"e{place}", 5)))
        elif what == "pass":
            matcher.run(number)
    matcher.run(-1)
    return matcher


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(WAITS, WAITS, EVENTS, PASSES), max_size=40), st.integers(1, 4), st.sampled_from([0, 30, 10_000])
)
def test_several_batches_match_as_one_would(
    script: list[tuple[str, int, object]], at_once: int, characters: int
) -> None:
    """The first event that satisfies a wait ends it, however few waits one transition may evaluate."""
    whole, cut = play(script, 1_000), play(script, at_once, characters)
    assert whole.ended == cut.ended
    rows = [
        {key: tables.get(key) for key in tables.rows if not isinstance(tables.get(key), EventName | Wait)}
        for tables in (whole.tables, cut.tables)
    ]
    assert not any(isinstance(row, QueuedEvent) for row in rows[1].values())
    assert {k for k in whole.tables.rows if k.table == b"w"} == {k for k in cut.tables.rows if k.table == b"w"}


def test_one_record_ends_a_bounded_number_of_waits() -> None:
    """One event ends 2,000 equal waits, at most 500 of them in one transition."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(2_000):
        matcher.apply(wait_opened(f"run{number:04}", BUCKETS[0]))
    matcher.apply(EventRouted(EventRecord("come", Raw(b'{"id":1}'), "e", 5)))
    assert len(matcher.ended) == 500
    matcher.run(-1)
    assert len(matcher.ended) == 2_000
    assert matcher.most == 500


def test_a_large_event_ends_fewer_waits_at_once() -> None:
    """Each run gets a copy of the event: one of half a megabyte ends 31 waits in one transition, not 500."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(100):
        matcher.apply(wait_opened(f"run{number:04}", BUCKETS[0]))
    text = b"x" * (512 * 1024)
    matcher.apply(EventRouted(EventRecord("come", Raw(b'{"id":1,"text":"' + text + b'"}'), "e", 5)))
    matcher.run(-1)
    assert len(matcher.ended) == 100
    assert matcher.most == 31


def test_a_wait_closed_meanwhile_is_not_ended() -> None:
    """An event that is still being evaluated does not end a wait that its run has closed; later waits are evaluated."""
    matcher = Matcher(1)
    for name in ("run1", "run2", "run3"):
        matcher.apply(wait_opened(name, BUCKETS[4]))
    matcher.apply(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
    matcher.apply(wait_closed("run2", BUCKETS[4]))
    matcher.run(-1)
    assert set(matcher.ended) == {"run1", "run3"}


def test_waits_with_long_expressions_take_several_batches() -> None:
    """Of 40 distinct expressions of 4,000 characters, one transition evaluates 17; a shared one is parsed once."""
    for count, most in ((40, 17), (1, 40)):
        matcher = Matcher(Limits().waits_per_match_max)
        for number in range(40):
            residual = f'"{"x" * 3_980}" != "{number % count:02}"'
            matcher.apply(wait_opened(f"run{number:02}", Predicate(residual=residual)))
        matcher.apply(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
        matcher.run(-1)
        assert (len(matcher.ended), matcher.most) == (40, most)


def heavy(count: int, distinct: int, residual: str = 'event.data.text != ""') -> Matcher:
    """Return a matcher after an event that ended so many waits, each with a mebibyte of bindings."""
    matcher = Matcher(Limits().waits_per_match_max)
    for number in range(count):
        bindings = Raw(f'{{"event":{{"data":{{"text":"{"x" * MIB}{number % distinct}"}}}}}}'.encode())
        matcher.apply(wait_opened(f"run{number:02}", Predicate((), residual, bindings)))
    matcher.apply(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
    matcher.run(-1)
    return matcher


def test_waits_with_large_bindings_take_several_batches() -> None:
    """One transition evaluates 4 MiB of bindings, or more if they are all equal."""
    for distinct, most in ((40, 4), (1, 24)):
        matcher = heavy(40, distinct)
        assert (len(matcher.ended), matcher.most) == (40, most)


def test_equal_bindings_are_parsed_once_in_a_record() -> None:
    """Waits that all capture the same data cost no more than one."""
    with mock.patch.object(match_budget, "load_json", wraps=load_json) as parsed:
        heavy(20, 1)
    assert parsed.call_count == 1


def test_costly_expressions_take_several_batches() -> None:
    """The work of an expression is charged afterwards, so one more than the bound allows is evaluated."""
    matcher = Matcher(Limits().waits_per_match_max)
    residual = f"[{','.join('1' * 100)}].all(x, x == 1)"
    with mock.patch.object(match_budget, "MATCHED_VISITS_PER_RECORD_MAX", 1_000):
        for number in range(20):
            matcher.apply(wait_opened(f"run{number:02}", Predicate((), residual)))
        matcher.apply(EventRouted(EventRecord("come", Raw(b"{}"), "e", 5)))
        matcher.run(-1)
    assert len(matcher.ended) == 20
    assert matcher.most < 5
