"""One list of limits from the answers of all shards."""

from collections.abc import Sequence

from stepstream.contract.operators.limit_views import LimitsPage, decode_limits
from stepstream.engine.state.gate_keys import gate_part


def merged(answers: Sequence[str | BaseException], count: int) -> LimitsPage:
    """Return the first `count` limits of the answers of all shards; raise the first error if no shard answered.

    Each shard answered with one more limit of each kind than is shown, if it has so many.
    """
    failed = {shard: answer for shard, answer in enumerate(answers) if isinstance(answer, BaseException)}
    if len(failed) == len(answers):
        raise failed[0]
    pages = [decode_limits(answer) for answer in answers if isinstance(answer, str)]
    used = {view.gate: view for page in pages for view in page.limits}
    changed = {each.gate: each for page in pages for each in page.changed}
    gates = sorted(used.keys() | changed.keys(), key=gate_part)
    shown = gates[:count]
    return LimitsPage(
        tuple(used[gate] for gate in shown if gate in used),
        tuple(changed[gate] for gate in shown if gate in changed),
        shown[-1] if len(gates) > count else "",
        tuple(failed),
    )
