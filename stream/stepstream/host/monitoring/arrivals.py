"""Estimates how long the oldest unprocessed record of each input has waited, from repeated measurements of its lag."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice

# More measurements than this are thinned out; the estimate then becomes less exact, and never too high.
_SEEN_MAX = 1_000

# A shard and the topic of one of its inputs.
Input = tuple[int, str]


class Arrivals:
    """When the ends of inputs were first seen.

    Records have timestamps too, but those of `events` are set by their producers.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._seen: dict[Input, deque[tuple[int, float]]] = {}

    def measured(self, ends_and_lags: Mapping[Input, tuple[int, int]]) -> dict[Input, float]:
        """Add a measurement; return for each input how many seconds its oldest record has waited at least.

        The values are the end of the input, and how many records before it are not processed. An input that is
        missing is forgotten.
        """
        now_s = self._now_s()
        self._seen = {input: self._seen.get(input, deque()) for input in ends_and_lags}
        return {input: self._age(self._seen[input], *found, now_s) for input, found in ends_and_lags.items()}

    @staticmethod
    def _age(seen: deque[tuple[int, float]], end: int, lag: int, now_s: float) -> float:
        if not seen or seen[-1][0] != end:
            seen.append((end, now_s))
        while seen and seen[0][0] <= end - lag:
            seen.popleft()
        if len(seen) > _SEEN_MAX:
            kept = list(islice(seen, 0, None, 2))
            seen.clear()
            seen.extend(kept)
        return now_s - seen[0][1] if seen else 0.0
