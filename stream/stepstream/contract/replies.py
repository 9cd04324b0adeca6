"""The record of `replies`: the answers of the engine to callers."""

import msgspec


class Answered(msgspec.Struct, frozen=True):
    """The answer to the request that named `to`; it is sent once, after the commit, and may be lost."""

    to: str
    status: str


decode_answer = msgspec.json.Decoder(Answered).decode
