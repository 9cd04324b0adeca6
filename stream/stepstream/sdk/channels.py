"""Typed channels: the name of a channel together with the type of what is published on it."""

import re
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput
from stepstream.contract.live import check_channel
from stepstream.sdk.deferred import converter_of, dump_typed, load_typed
from stepstream.sdk.errors import DefinitionError

M = TypeVar("M")
_FIELD = re.compile(r"\{(\w+)\}")
# A value with a slash could name the channel of another value.
_EXCLUDED = set("/{}")


@dataclass(frozen=True, slots=True)
class Channel(Generic[M]):
    """A channel whose messages have a type: `ctx.publish` validates by it, and `StreamClient` parses by it.

    Args:
        name: 1 to 256 characters. Words in braces are fields, which `of` fills: `orders/{customer}`.
        model: A pydantic model, a dataclass, or any other type that pydantic converts.
        shared: Whether all runs share the channel. A channel that is not shared belongs to each run by itself.

    Raises `DefinitionError` for a type that pydantic cannot convert, and `InvalidInput` for a wrong name.

    Example:
        ```python
        class Progress(pydantic.BaseModel):
            done: int
            total: int


        progress = Channel("progress", Progress)

        await ctx.publish(progress, Progress(done=1, total=3))

        async for message in client.run(run_id, progress):
            print(message.data.done)
        ```
    """

    name: str
    model: type[M]
    shared: bool = False

    def __post_init__(self) -> None:
        """Check the name and the type."""
        if set("{}") & set(_FIELD.sub("", check_channel(self.name))):
            raise InvalidInput(f"{self.name!r} has a brace outside of a field; write fields as {{customer}}", "name")
        try:
            converter_of(self.model)
        except Exception as error:  # noqa: BLE001 - pydantic runs the code of the user's types
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise DefinitionError(f"channel {self.name!r} has a type that pydantic cannot convert ({reason})") from None

    def of(self, **values: str | int) -> "Channel[M]":
        """Return the channel for these values of the fields of its name; raise InvalidInput for wrong ones."""
        fields = set(_FIELD.findall(self.name))
        if fields != values.keys():
            listed = ", ".join(sorted(fields)) or "none"
            raise InvalidInput(f"channel {self.name!r} has the fields {listed}, not {', '.join(sorted(values))}", "of")
        for field, value in values.items():
            if not str(value) or _EXCLUDED & set(str(value)):
                raise InvalidInput(f"{value!r} is empty, or has one of the characters / {{ }}", field)
        return replace(self, name=_FIELD.sub(lambda found: str(values[found[1]]), self.name))

    def dump(self, data: Any) -> Any:
        """Return data as plain JSON values; raise NotJson if it does not fit the type."""
        return dump_typed(data, converter_of(self.model), f"data on channel {self.name!r}")

    def load(self, raw: Raw) -> M:
        """Return the data of a message; raise InvalidInput if it does not fit the type."""
        try:
            data: M = load_typed(raw, converter_of(self.model))
        except InvalidInput as error:
            raise InvalidInput(error.reason, f"data on channel {self.name!r}") from None
        return data


def channel_name(channel: "str | Channel[Any]", *, shared: bool) -> str:
    """Return the name of a channel that a client reads; raise InvalidInput if it is of the other kind."""
    if isinstance(channel, Channel):
        if channel.shared != shared:
            kind = "is shared, so no run has it" if channel.shared else "belongs to a run, so runs do not share it"
            raise InvalidInput(f"{channel.name!r} {kind}", "channel")
        check_filled(channel)
    return check_channel(channel.name if isinstance(channel, Channel) else channel)


def check_filled(channel: Channel[Any]) -> None:
    """Raise InvalidInput if fields of the name have no values."""
    if fields := _FIELD.findall(channel.name):
        raise InvalidInput(f"{channel.name!r} lacks values; use channel.of({fields[0]}=…)", "channel")


def plain_message(channel: "str | Channel[Any]", data: Any, *, shared: bool) -> tuple[str, Any, bool]:
    """Return the name, the data as `ctx.publish` takes it without a type, and whether runs share the channel."""
    if not isinstance(channel, Channel):
        return channel, data, shared
    if shared:
        raise InvalidInput("a Channel states by itself whether it is shared; leave it out", "shared")
    check_filled(channel)
    return channel.name, channel.dump(data), channel.shared
