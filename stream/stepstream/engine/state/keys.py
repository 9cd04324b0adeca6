"""Keys of rows: bytes that sort by table, part and place."""

from typing import Generic, NamedTuple, TypeVar

R = TypeVar("R")


class Key(NamedTuple, Generic[R]):
    """The key of a row of type R: its table, the part that one scan covers, and the place within the part."""

    table: bytes
    part: bytes
    sort: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes under which the row is stored; their order is that of (table, part, sort)."""
        return self.table + self.part + self.sort


def text_bytes(text: str) -> bytes:
    """Return a text as bytes that sort as texts do, and none of which is a prefix of another."""
    return text.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def parse_texts(raw: bytes) -> list[str]:
    """Return the texts of concatenated results of `text_bytes`."""
    pieces = raw.replace(b"\x00\xff", b"\xff\xff").split(b"\x00\x00")
    return [piece.replace(b"\xff\xff", b"\x00").decode() for piece in pieces[:-1]]


def number_bytes(number: int) -> bytes:
    """Return a number from 0 to 2**64 - 1 as bytes that sort as the numbers do."""
    return number.to_bytes(8, "big")
