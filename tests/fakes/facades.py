"""The API's view of an engine in memory."""

from typing import Any

from stepstream.api.facade import EngineFacade
from stepstream.host.deadletters.latest import LatestDeadLetters, LocalDeadLetterLog
from stepstream.runtime.embedded.log import EmbeddedBackbone


def facade_of(engine: Any) -> EngineFacade:
    """Return the facade of an engine, or of a fake with the same methods."""
    control = (engine.workers, lambda: engine.unready, engine.operator, engine)
    backbone = getattr(engine, "_backbone", None)
    dead_letters = LatestDeadLetters(LocalDeadLetterLog(backbone)) if isinstance(backbone, EmbeddedBackbone) else None
    live = getattr(engine, "live", None)
    return EngineFacade(engine.send, engine.signal, *control, dead_letters=dead_letters, live=live)
