"""One list of limits from the answers of all shards."""

from collections.abc import Sequence

from stepstream.contract.operators.limit_views import LimitsPage, decode_limits
from stepstream.engine.state.tables import gate_part


def merged(answers: Sequence[str | BaseException], count: int) -> LimitsPage:
    """Return the first `count` limits of the answers of all shards; raise the first error if no shard answered."""
    failed = {shard: answer for shard, answer in enumerate(answers) if isinstance(answer, BaseException)}
    if len(failed) == len(answers):
        raise failed[0]
    pages = [decode_limits(answer) for answer in answers if isinstance(answer, str)]
    found = sorted((view for page in pages for view in page.limits), key=lambda view: gate_part(view.gate))
    shown = found[:count]
    more = len(found) > count or any(page.next for page in pages)
    return LimitsPage(tuple(shown), shown[-1].gate if more else "", tuple(failed))
