"""The records of `inbox` by which operators see limits, and the answers of the shards that own them."""

import msgspec
from msgspec.structs import replace

from stepstream.contract.codec import TypedRecord
from stepstream.contract.gates import Excess, GateRule, gate_id, rule_text
from stepstream.contract.operators.control import Pause
from stepstream.contract.operators.limit_settings import LimitSetting


class LimitsRequested(TypedRecord, frozen=True, tag="limits.requested"):
    """A caller lists the limits that a shard owns; the process named `reply_to` expects a LimitsPage as JSON.

    They are in the order of their gates, at most `count` that follow the gate `after`, and only those of `name` if it
    is given.
    """

    reply_to: str
    count: int
    name: str = ""
    after: str = ""


class LimitRequested(TypedRecord, frozen=True, tag="limit.requested"):
    """A caller asks for a limit, and for the place of a run in its queue if `run_id` is given, or of its `step`.

    `step_id` is the id of that step. The process named `reply_to` expects a LimitAnswer as JSON.
    """

    gate: str
    reply_to: str
    run_id: str = ""
    step: str = ""
    step_id: str = ""


class RunLimitRequested(TypedRecord, frozen=True, tag="limit.run_requested"):
    """A caller asks for the limit for which a run waits, or the first of its steps that waits for one.

    It is answered as LimitRequested.
    """

    run_id: str
    reply_to: str


class LimitView(msgspec.Struct, frozen=True):
    """What holds a limit, or waits for it; times are Unix ms, 0 for none.

    `key` is the value of its key. `limit` and `burst` are those that count now. `since` is when the run that passes
    next asked, `next_start` when a limit with a period allows the next start. `holders` and `waiters` are the first run
    ids, in order; a limit with a period has no holders. `place` is that of the requested run in the queue, from 1; 0 if
    it does not wait, or has more than a thousand before it. `step` is the id of the step that waits, if it is not the
    run. The limit counts `steps` instead of runs. One that is `paused` lets none pass, and `pause` says who asked for
    that. `excess`, `most_ms` and `size` are those of GateRule, and so are `metered`, `renewed` and `work`.
    """

    name: str
    key: str
    limit: int
    period_ms: int
    burst: int
    in_use: int
    waiting: int
    since: int
    next_start: int
    holders: tuple[str, ...]
    waiters: tuple[str, ...]
    place: int = 0
    step: str = ""
    steps: bool = False
    paused: bool = False
    pause: Pause | None = None
    excess: Excess = Excess.WAIT
    most_ms: int = 0
    size: int = 0
    metered: bool = False
    renewed: bool = False
    work: bool = False

    @property
    def gate(self) -> str:
        """The id of the gate."""
        return gate_id(self.name, self.key)

    @property
    def text(self) -> str:
        """The limit as text for people."""
        numbers = self.limit, self.period_ms, self.burst
        rule = GateRule(self.name, *numbers, "", self.excess, self.steps, self.most_ms, self.size)
        return rule_text(replace(rule, metered=self.metered, renewed=self.renewed, work=self.work))


class ChangedLimit(msgspec.Struct, frozen=True):
    """How operators changed a limit for a value of its key, or for all of them if the key is empty."""

    name: str
    key: str
    setting: LimitSetting

    @property
    def gate(self) -> str:
        """The id of the gate."""
        return gate_id(self.name, self.key)


class LimitAnswer(msgspec.Struct, frozen=True):
    """A limit, None if nothing holds it or waits for it, and how operators changed it, for its key first."""

    limit: LimitView | None = None
    changed: tuple[ChangedLimit, ...] = ()


class LimitsPage(msgspec.Struct, frozen=True):
    """A part of a list of limits: those in use, and those that operators changed, both in the order of their gates.

    The next part follows the gate `next`, "" if this is the last. The limits of the shards `missing` did not arrive in
    time.
    """

    limits: tuple[LimitView, ...]
    changed: tuple[ChangedLimit, ...] = ()
    next: str = ""
    missing: tuple[int, ...] = ()


decode_limits = msgspec.json.Decoder(LimitsPage).decode
decode_limit = msgspec.json.Decoder(LimitAnswer).decode
LimitQuestion = LimitsRequested | LimitRequested | RunLimitRequested
