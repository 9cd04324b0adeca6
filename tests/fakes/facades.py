"""The API's view of an engine in memory."""

from typing import Any

from stepstream.api.facade import EngineFacade


def facade_of(engine: Any) -> EngineFacade:
    """Return the facade of an engine, or of a fake with the same methods."""
    control = (engine.cancel, engine.workers, lambda: engine.unready, engine.operator, engine)
    return EngineFacade(engine.send, engine.signal, *control)
