"""The state of a run as its code sees it: `ctx.state`."""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from stepstream.contract.attributes import check_attribute_name
from stepstream.contract.codec import dump_json, load_json
from stepstream.contract.run_state import StateValues, check_state
from stepstream.sdk.errors import StepUsageError
from stepstream.sdk.replay.tasks import current_body
from stepstream.sdk.values import to_json


class RunState(MutableMapping[str, Any]):
    """`ctx.state`: a mapping of names to the last values that the code has set, which are kept with the run.

    A value is JSON; a pydantic model or a dataclass becomes JSON. What the code reads is what it has set itself, as a
    copy: to change a part of a value, set the whole value again. A body of a step may read, and not set.
    """

    def __init__(self, report: Callable[[StateValues], None]) -> None:
        self._report = report
        self._values: StateValues = {}

    def __getitem__(self, name: str) -> Any:
        return load_json(self._values[name])

    def __setitem__(self, name: str, value: Any) -> None:
        raw = dump_json(to_json(value), f"state {name!r}")
        self._change({**self._values, check_attribute_name(name): raw})

    def __delitem__(self, name: str) -> None:
        left = dict(self._values)
        del left[name]
        self._change(left)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"RunState({dict(self)!r})"

    def _change(self, values: StateValues) -> None:
        if current_body.get():
            raise StepUsageError(
                "ctx.state was set in the body of a step, which a replay does not run again; set it in the function, "
                "or report the progress of the body with ctx.heartbeat(progress)"
            )
        self._values = check_state(values)
        self._report(self._values)
