"""The link between a run that continues as new and its successor."""

import msgspec


class Continuation(msgspec.Struct, frozen=True):
    """The run that a run continues, and its `number` in the series: 1 for the first successor."""

    run_id: str
    number: int
