"""Decompresses Kafka's codecs with a cap, whatever size a producer's bytes claim or expand to."""

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cramjam

# Windows of 32 KiB, with the header of gzip.
_GZIP_WBITS = 31
_PIECE_BYTES = 16_384
_XERIAL_HEADER = b"\x82SNAPPY\x00"
_XERIAL_BYTES = 16
# Producers write blocks of 32 KiB, or less when they flush; each costs about a microsecond, however small it is.
_BLOCKS_FREE, _BLOCK_BYTES_MIN = 10_000, 512
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


def _snappy(data: memoryview, most: int) -> bytearray:
    found = bytearray()
    for count, block in enumerate(_snappy_blocks(data)):
        if count >= _BLOCKS_FREE + len(found) // _BLOCK_BYTES_MIN:
            raise CorruptData("the data has too many small blocks of snappy")
        # Each block starts with its inflated size, which the decoder allocates and then verifies.
        if len(found) + cramjam.snappy.decompress_raw_len(block) > most:
            raise InflatedTooLarge
        found += memoryview(cramjam.snappy.decompress_raw(block))
    return found


def _snappy_blocks(data: memoryview) -> Iterator[memoryview]:
    if bytes(data[: len(_XERIAL_HEADER)]) != _XERIAL_HEADER:
        yield data
        return
    at = _XERIAL_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        end = at + 4 + max(size, 0)
        yield data[at + 4 : end]
        at = end


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
