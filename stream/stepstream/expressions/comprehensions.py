"""The macros all, exists, exists_one, filter and map: loops over a list or the keys of a map, within the budget."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import BUILT_ITEMS_MAX
from stepstream.expressions.values import no_overload

Code: TypeAlias = Callable[[Frame], Value]


@dataclass(frozen=True, slots=True)
class Loop:
    """The loop of a macro: the code of the container, the slot of the element, and the visits of one iteration."""

    elements: Code
    slot: int
    visits: int

    def iterate(self, frame: Frame, macro: str) -> Iterator[Value]:
        """Bind each element to its slot, and charge for it before its body runs."""
        container = self.elements(frame)
        if not isinstance(container, list | Mapping):
            raise no_overload(f"{macro}()", container)
        while len(frame.variables) <= self.slot:
            frame.variables.append(None)
        for element in container:
            frame.charge(self.visits)
            frame.variables[self.slot] = element
            yield element


def _test(value: Value, macro: str) -> bool:
    if value is True or value is False:
        return bool(value)
    raise no_overload(f"{macro}()", value)


def _any(loop: Loop, body: Code, macro: str, *, decisive: bool) -> Code:
    """Return the code of exists (decisive is True) or all (False): an error counts only if no element decides."""

    def run(frame: Frame) -> bool:
        fault: Fault | None = None
        for _ in loop.iterate(frame, macro):
            try:
                if _test(body(frame), macro) is decisive:
                    return decisive
            except Fault as error:
                fault = error
        if fault is not None:
            raise fault
        return not decisive

    return run


def _exists_one(loop: Loop, body: Code) -> Code:
    return lambda frame: sum(_test(body(frame), "exists_one") for _ in loop.iterate(frame, "exists_one")) == 1


def _filter(loop: Loop, body: Code) -> Code:
    return lambda frame: [item for item in loop.iterate(frame, "filter") if _test(body(frame), "filter")]


def _map(loop: Loop, *parts: Code) -> Code:
    body, condition = parts[-1], parts[0] if len(parts) > 1 else None

    def run(frame: Frame) -> list[Value]:
        built: list[Value] = []
        for _ in loop.iterate(frame, "map"):
            if condition is None or _test(condition(frame), "map"):
                built.append(body(frame))
                if len(built) > BUILT_ITEMS_MAX:
                    raise Fault(f"map() builds more than {BUILT_ITEMS_MAX:,} items")
        return built

    return run


COMPREHENSIONS: Mapping[str, Callable[..., Code]] = {
    "all": lambda loop, body: _any(loop, body, "all", decisive=False),
    "exists": lambda loop, body: _any(loop, body, "exists", decisive=True),
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}
