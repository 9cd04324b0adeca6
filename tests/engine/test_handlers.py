"""The table of handlers: every input has one."""

from typing import get_args

from stepstream.engine.state.records import Input
from stepstream.engine.transition import HANDLERS


def test_every_input_has_a_handler() -> None:
    """The table has the inputs of the engine, and nothing else."""
    assert set(HANDLERS) == set(get_args(Input))
