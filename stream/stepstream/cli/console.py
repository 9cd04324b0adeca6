"""What all commands share: where they print, the codes with which they end, and how an error is told."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.ports import LogError

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE = 1, 2, 3

out = Console()
err = Console(stderr=True)

BY_VARIABLES = "Options may be given by variables, too, as STEPSTREAM_DATA_DIR and STEPSTREAM_KAFKA_BOOTSTRAP."
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def fail(message: str, code: int) -> typer.Exit:
    """Say what is wrong and return the exit to raise."""
    err.print(Text.assemble(("error:", "red"), " ", message), soft_wrap=True)
    return typer.Exit(code)


def failed_by(error: StepstreamError | LogError) -> typer.Exit:
    """Say what one of our errors has to say and return the exit to raise: 3 when Kafka is not reached, else 2."""
    if isinstance(error, LogError):
        return fail(f"{error}; is Kafka up, and --kafka its address?", EXIT_UNREACHABLE)
    return fail(str(error), EXIT_USAGE)


class Commands(TyperGroup):
    """Commands that end with a sentence and a code, whichever of our errors comes out of them."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (StepstreamError, LogError) as error:
            raise failed_by(error) from None
