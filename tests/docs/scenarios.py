"""Scenarios for the durable functions of the pages: what runs them and looks at what they return."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stepstream.testing import VirtualEngine

Scenario = Callable[[VirtualEngine], Awaitable[None]]
EngineOptions = Callable[[], Mapping[str, Any]]


class Scenarios:
    """The scenarios of one page by the functions that they run, and how the engine of each is made."""

    def __init__(self, page: str, engine: EngineOptions = dict) -> None:
        self.page = page
        self.of: dict[str, Scenario] = {}
        self.options: dict[Scenario, EngineOptions] = {}
        self._engine = engine

    def shows(self, *functions: str, engine: EngineOptions | None = None) -> Callable[[Scenario], Scenario]:
        """Register a scenario as what runs these functions."""

        def register(scenario: Scenario) -> Scenario:
            self.of.update(dict.fromkeys(functions, scenario))
            self.options[scenario] = engine or self._engine
            return scenario

        return register
