"""Each sub-queue of a fair limit has its share, whatever the others ask for, compared with an ideal schedule."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.gates import Gate, GateAsked, GateGranted, GateLeft
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.limits import GATE_WEIGHT_ONE, Limits
from stepstream.engine.gates.shares import tag_cost
from stepstream.engine.state.changes import Send
from stepstream.engine.state.gate_rows import GateShare, GateState, ShareWaiter
from stepstream.engine.state.records import Input, Tick
from stepstream.engine.state.tables import GATE_SHARES, GATE_TAGS, GATES, SHARE_QUEUE
from stepstream.engine.transition import due_timers, transition
from tests.fakes.tables import CountingTables, Tables

LIMITS = Limits(waits_per_match_max=500)
# Costs are rounded to a millionth of a unit.
ROUNDING = Fraction(1, 1_000)


class Schedule:
    """A limit of one that tenants share by their weights, and what each tenant had of it."""

    def __init__(self, weights: Sequence[int]) -> None:
        self.tables = Tables()
        self.weights = weights
        self.asked: list[int] = []
        self.holder = -1
        self.waiting = Counter[int]()
        # What a tenant had, and what the ideal schedule gave to it, since it has runs that wait.
        self.had, self.ideal = Counter[int](), Counter[int]()
        self.leads: dict[tuple[int, int], list[Fraction]] = {}

    def ask(self, tenant: int) -> None:
        """Let a run of a tenant ask."""
        gate = Gate("limit", 1, share=str(tenant), weight=self.weights[tenant] * GATE_WEIGHT_ONE)
        self.asked.append(tenant)
        self.waiting[tenant] += 1
        self._take(GateAsked(gate, _run_id(len(self.asked) - 1)))

    def end(self) -> None:
        """Let the run that holds the limit end."""
        if self.holder >= 0:
            left, self.holder = self.holder, -1
            self._take(GateLeft("limit\x00", _run_id(left)))

    def cancel(self, tenant: int) -> None:
        """Cancel the first run of a tenant that waits."""
        rows = [row for _, row in self.tables.scan(SHARE_QUEUE.prefix, b"") if isinstance(row, ShareWaiter)]
        ids = [row.run_id for row in rows if row.share == str(tenant)]
        if ids:
            self.waiting[tenant] -= 1
            self._take(GateLeft("limit\x00", ids[0]))

    def _take(self, record: Input) -> None:
        changes = transition(self.tables, record, 10, limits=LIMITS)
        self.tables.apply(changes)
        for change in changes.changes:
            if isinstance(change, Send) and isinstance(change.record, GateGranted):
                self._granted(next(n for n in range(len(self.asked)) if _run_id(n) == change.record.run_id))
        self._begin_intervals()
        self.check_rows()

    def _granted(self, run: int) -> None:
        assert self.holder < 0, "two runs hold the limit"
        self.holder, tenant = run, self.asked[run]
        for pair, leads in self.leads.items():
            if tenant in pair:
                one = Fraction(1 if tenant == pair[0] else -1, self.weights[tenant])
                leads.append(leads[-1] + one)
                most = sum(Fraction(1, self.weights[each]) for each in pair) + ROUNDING
                assert max(leads) - min(leads) <= most, f"{pair} had {leads}"
        for each in self.ideal:
            self.ideal[each] += 1
        self.had[tenant] += 1
        for each, granted in self.ideal.items():
            share = Fraction(self.weights[each] * granted, sum(self.weights))
            assert share - self.had[each] <= len(self.weights), f"{each} had {self.had[each]} of {share}"
        self.waiting[tenant] -= 1

    def _begin_intervals(self) -> None:
        """Measure those that have runs that wait, from the moment from which they have."""
        busy = [tenant for tenant in range(len(self.weights)) if self.waiting[tenant]]
        self.leads = {pair: self.leads.get(pair, [Fraction(0)]) for pair in combinations(busy, 2)}
        self.had = Counter({tenant: self.had[tenant] for tenant in busy})
        self.ideal = Counter({tenant: self.ideal[tenant] for tenant in busy})

    def check_rows(self) -> None:
        """Check that each sub-queue has one tag, which is ahead by what its last run cost at most."""
        states = [row for _, row in self.tables.scan(GATES.prefix, b"") if isinstance(row, GateState)]
        shares = [row for _, row in self.tables.scan(GATE_SHARES.prefix, b"") if isinstance(row, GateShare)]
        assert len(shares) == len(self.tables.scan(GATE_TAGS.prefix, b"")) == sum(state.shares for state in states)
        for share in shares:
            assert states[0].tag < share.tag
            assert share.tag[0] - states[0].tag[0] <= tag_cost(GATE_WEIGHT_ONE)


def _run_id(number: int) -> str:
    return run_id_at(10, run_hash("f", str(number)))


ACTIONS = st.sampled_from(["ask", "ask", "end", "end", "cancel"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.integers(0, 12),
    st.lists(st.tuples(ACTIONS, st.integers(0, 3)), max_size=40),
)
def test_each_sub_queue_has_its_share(weights: list[int], flood: int, actions: list[tuple[str, int]]) -> None:
    """Two that wait are never further apart than a unit of each; one lacks less than a unit for each sub-queue.

    When nothing holds the limit or waits for it, no row is left.
    """
    schedule = Schedule(weights)
    for _ in range(flood):
        schedule.ask(0)
    for action, number in actions:
        match action:
            case "ask":
                schedule.ask(number % len(weights))
            case "cancel":
                schedule.cancel(number % len(weights))
            case _:
                schedule.end()
    while schedule.holder >= 0:
        schedule.end()
    assert schedule.tables.rows == {}


def test_a_newcomer_is_served_next() -> None:
    """It has saved up nothing from before it asked: then it and the one that always waits alternate."""
    schedule = Schedule([1, 1])
    for _ in range(30):
        schedule.ask(0)
    for _ in range(10):
        schedule.end()
    for _ in range(8):
        schedule.ask(1)
    order = []
    for _ in range(8):
        schedule.end()
        order.append(schedule.asked[schedule.holder])
    assert order == [1, 0] * 4


def test_a_grant_reads_few_rows_however_many_wait() -> None:
    """Neither the length of a sub-queue nor the number of them counts."""
    schedule = Schedule([1] * 60)
    schedule.tables = tables = CountingTables()
    for number in range(180):
        tables.apply(transition(tables, GateAsked(Gate("limit", 1, share=str(number % 60)), _run_id(number)), 10))
    tables.start_over()
    for number in range(20):
        tables.apply(transition(tables, GateLeft("limit\x00", _run_id(number)), 10))
    assert tables.scanned.total() <= 20 * 40


def test_sub_queues_of_an_idle_limit_are_forgotten_in_portions() -> None:
    """A record deletes a bounded number of them, and the timer of the limit the others."""
    tables, limits = Tables(), Limits(waits_per_match_max=4)
    for number in range(10):
        asked = GateAsked(Gate("limit", 100, share=str(number)), _run_id(number))
        tables.apply(transition(tables, asked, 10, limits=limits))
    left = []
    for number in range(10):
        tables.apply(transition(tables, GateLeft("limit\x00", _run_id(number)), 10, limits=limits))
    while due := list(due_timers(tables, 10)):
        left.append(len(tables.scan(GATE_SHARES.prefix, b"")))
        tables.apply(transition(tables, Tick(due[0][0]), 10, limits=limits))
    assert left
    assert tables.rows == {}
