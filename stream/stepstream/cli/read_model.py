"""The commands `stepstream readmodel create` and `migrate`, for a read model in PostgreSQL."""

from typing import Annotated

import typer

from stepstream.cli.options import ReadModel
from stepstream.cli.terminal.console import commands, out
from stepstream.host.read_models import prepare_database
from stepstream.host.settings import SettingsError, settings_from

cli = commands("Create and migrate the read model in a PostgreSQL database.")
_REBUILT = "; engines fill them from the topic `history`"


def _url(read_model: str | None) -> str:
    if url := settings_from(read_model=read_model).read_model:
        return url
    raise SettingsError("read_model is not set: give the URL of the database by STEPSTREAM_READ_MODEL or --read-model")


@cli.command(epilog="Example: STEPSTREAM_READ_MODEL=postgresql://u:p@db.internal/runs stepstream readmodel create")
def create(
    read_model: ReadModel = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop tables that exist; engines read all of `history` again.")
    ] = False,
) -> None:
    """Create the tables in the schema `stepstream` of a database; existing ones of this release are not changed."""
    created = prepare_database(_url(read_model), replace=replace)
    out.line(f"the tables were created{_REBUILT}" if created else "the tables exist already")


@cli.command(epilog="Example: STEPSTREAM_READ_MODEL=postgresql://u:p@db.internal/runs stepstream readmodel migrate")
def migrate(read_model: ReadModel = None) -> None:
    """Replace the tables of an earlier release by those of this one; newer ones are refused."""
    migrated = prepare_database(_url(read_model), migrate=True)
    out.line(f"the tables were replaced{_REBUILT}" if migrated else "the tables are those of this release")
