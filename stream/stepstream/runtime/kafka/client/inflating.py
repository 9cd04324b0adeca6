"""Decompresses Kafka's codecs with a cap, whatever size a producer's bytes claim or expand to."""

import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import cramjam

# Windows of 32 KiB, with the header of gzip.
_GZIP_WBITS = 31
_PIECE_BYTES = 16_384
_XERIAL_HEADER = b"\x82SNAPPY\x00"
_XERIAL_BYTES = 16
# The first buffer for a codec whose frames need not have a size; a larger one is tried until the cap.
_BUFFER_RATIO, _BUFFER_GROWTH, _BUFFER_BYTES_MIN = 8, 8, 64 * 1024


class InflatedTooLarge(Exception):
    """The data inflates to more than the cap."""


class CorruptData(Exception):
    """The data is not that of its codec."""


def _gzip(data: memoryview, most: int) -> bytearray:
    found, at = bytearray(), 0
    while at < len(data):
        inflater = zlib.decompressobj(_GZIP_WBITS)
        while not inflater.eof:
            # In pieces: zlib copies the rest at the end of each member, and there may be a member for each byte.
            piece = data[at : at + _PIECE_BYTES]
            if not piece:
                raise CorruptData("the gzip stream is truncated")
            found += inflater.decompress(piece, most + 1 - len(found))
            if len(found) > most:
                raise InflatedTooLarge
            at += len(piece) - len(inflater.unused_data)
        at = _after_padding(data, at)
    return found


def _after_padding(data: memoryview, at: int) -> int:
    """Return where the next gzip member starts: zeros may follow each member."""
    while at < len(data) and not data[at]:
        piece = bytes(data[at : at + _PIECE_BYTES])
        at += len(piece) - len(piece.lstrip(b"\x00"))
    return at


def _snappy(data: memoryview, most: int) -> bytes:
    blocks = [data]
    if bytes(data[: len(_XERIAL_HEADER)]) == _XERIAL_HEADER:
        blocks, at = [], _XERIAL_BYTES
        while at < len(data):
            (size,) = struct.unpack_from(">i", data, at)
            blocks.append(data[at + 4 : at + 4 + max(size, 0)])
            at += 4 + max(size, 0)
    # Each block starts with its inflated size, which the decoder allocates and then verifies.
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > most:
        raise InflatedTooLarge
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _framed(codec: Any) -> Callable[[memoryview, int], bytes]:
    def inflate(data: memoryview, most: int) -> bytes:
        size = max(len(data) * _BUFFER_RATIO, _BUFFER_BYTES_MIN)
        while True:
            buffer = bytearray(min(size, most))
            try:
                return bytes(memoryview(buffer)[: codec.decompress_into(data, buffer)])
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
                if size >= most:
                    raise InflatedTooLarge from error
            size *= _BUFFER_GROWTH

    return inflate


# The codec of a batch by the lowest three bits of its attributes.
CODECS: Mapping[int, tuple[str, Callable[[memoryview, int], bytes | bytearray]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _framed(cramjam.lz4)),
    4: ("zstd", _framed(cramjam.zstd)),
}


def inflate(codec: int, data: memoryview, most: int) -> bytes | bytearray:
    """Return the data of a batch, inflated; raise InflatedTooLarge above `most` bytes, or CorruptData."""
    try:
        return CODECS[codec][1](data, most)
    except KeyError as error:
        raise CorruptData(f"codec {codec} is unknown") from error
    except (cramjam.DecompressionError, zlib.error, struct.error, OSError, ValueError) as error:
        raise CorruptData(str(error)) from error
