"""Where an engine has its read model: in a file of its data directory, or in a PostgreSQL database that all share."""

import functools
import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from stepstream.contract.topics import HISTORY, LOGS
from stepstream.host.settings import Settings, SettingsError
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.pruning import keep_pruned

_MISSING = "read_model: psycopg is not installed ({}); install it by `pip install 'stepstream[postgresql]'`"


def open_read_model(settings: Settings, origin: str) -> RunIndex:
    """Return the read model of an engine; `origin` identifies the topics whose runs it has.

    Raise SettingsError if the URL of a database is wrong. Whether the database can be used shows later: it may be down,
    and runs continue without it.
    """
    if not settings.read_model:
        return RunIndex(settings.data_dir / RUNS_FILE, retention=settings.kept_runs, origin=origin)
    try:
        return RunIndex(_load().PostgresqlTables(settings.read_model, origin), retention=settings.kept_runs)
    except ValueError as error:
        raise SettingsError(f"read_model: {error}") from None


def read_model_parts(
    backbone: KafkaBackbone, index: RunIndex, owned: Callable[[], Sequence[int]] | None
) -> dict[str, Callable[[], Awaitable[None]]]:
    """Return the parts that keep the read model current from the shards that `owned` returns, or from all.

    An engine folds its own shards into a shared read model.
    """

    async def read(topic: str) -> None:
        index.identify(topic, await backbone.topic_id(topic))
        async for records in backbone.follow(topic, index.positions, owned):
            await index.folded(records)

    parts: dict[str, Callable[[], Awaitable[None]]] = {}
    parts["read_model"] = functools.partial(read, HISTORY)
    parts["logs"] = functools.partial(read, LOGS)
    parts["pruning"] = functools.partial(keep_pruned, index.pruned, beside_loop=index.is_shared)
    return parts | ({"changes": index.follow} if index.is_shared else {})


def prepare_database(url: str, *, replace: bool = False, migrate: bool = False) -> bool:
    """Create the tables of a read model, as `prepare_tables` does; raise SettingsError if the URL is wrong."""
    settings = Settings(read_model=url)
    try:
        created: bool = _load().prepare_tables(settings.read_model, replace=replace, migrate=migrate)
    except ValueError as error:
        raise SettingsError(f"read_model: {error}") from None
    return created


def _load() -> Any:
    # The package is an extra: only engines with such a read model need it.
    try:
        return importlib.import_module("stepstream.runtime.readmodel.postgresql_tables")
    except ImportError as error:
        raise SettingsError(_MISSING.format(error)) from None
