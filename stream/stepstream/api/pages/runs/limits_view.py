"""The limits that a run, or the attempts of a step, have passed, as a list in order of time."""

from collections.abc import Sequence

import htpy as h

from stepstream.api.pages.parts.components import at, text
from stepstream.runtime.readmodel.passed_limits import LimitDecision, passed_sentence

_LINES_MAX = 50
_CHARACTERS_MAX = 500


def limits_view(decisions: Sequence[LimitDecision], *, of_step: bool = False) -> h.Element | None:
    """Return what was decided, with the time; of many decisions the last ones. None if no limit was passed."""
    if not decisions:
        return None
    left_out = len(decisions) - _LINES_MAX
    return h.ul(".plain")[
        h.li[f"{left_out:,} earlier"] if left_out > 0 else None,
        [h.li[_decision(each, of_step=of_step)] for each in decisions[-_LINES_MAX:]],
    ]


def _decision(decision: LimitDecision, *, of_step: bool) -> h.Node:
    if not decision.passed:
        return ["permits returned at ", at(decision.at), " while it waits"]
    passed = text("; ".join(map(passed_sentence, decision.passed)), _CHARACTERS_MAX)
    if of_step:
        return [f"attempt {decision.attempt + 1}: ", passed, "; permits returned at ", at(decision.at)]
    return [passed, "; ended at " if decision.returned else "; passed at ", at(decision.at)]
