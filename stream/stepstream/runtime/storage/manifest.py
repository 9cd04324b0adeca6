"""Detects that the end of a database's list of files is lost, which RocksDB takes for the end that it wrote."""

import os
import zlib
from contextlib import suppress
from pathlib import Path

import msgspec

_CURRENT, _RECORD, _PREFIX = "CURRENT", "MANIFEST.check", "MANIFEST-"
# RocksDB writes a file of rows once thousands of batches have filled its memory, and the look costs as much as a batch.
_WRITES_PER_LOOK = 64
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


class CorruptError(Exception):
    """A database is corrupt, which RocksDB does not notice."""


class Manifest:
    """The list of a database's files, to which RocksDB appends when it writes a file of rows, and a record of it.

    Without its end, RocksDB opens the database with older files and the latest log of writes: the rows between them are
    missing, and nothing says so. The record has the number of the list, and the length and the checksum that it had
    when it was looked at; what precedes that never changes. With `sync` it is on the disk before its record is.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self._folder = folder
        self._sync = sync
        self._file = Path()
        self._number = self._length = self._checksum = self._writes = 0

    def check(self) -> None:
        """Raise CorruptError if the list differs from its record. A database without a record is not checked."""
        try:
            number, length, checksum = _unpack((self._folder / _RECORD).read_bytes())
            current = self._current()
        except (OSError, ValueError, msgspec.DecodeError):
            # What RocksDB says of CURRENT is as clear.
            return
        content = b""
        with suppress(FileNotFoundError):
            content = self._path(current).read_bytes() if current == number else b""
        if current < number or (current == number and zlib.crc32(content[:length]) != checksum):
            raise CorruptError(f"Corruption: the end of {self._path(number).name} is missing or damaged")

    def note_write(self) -> None:
        """Record the list at times while batches are written."""
        self._writes += 1
        if self._writes % _WRITES_PER_LOOK == 0:
            self.note()

    def note(self) -> None:
        """Record the list if it has grown. A disk that takes no record keeps the one before, which still holds."""
        with suppress(OSError, ValueError):
            try:
                grown = os.stat(self._file).st_size > self._length
            except FileNotFoundError:
                grown = True
            if grown:
                self._record()

    def _record(self) -> None:
        number = self._current()
        if number != self._number:
            self._file, self._number, self._length, self._checksum = self._path(number), number, 0, 0
        with self._file.open("rb") as file:
            file.seek(self._length)
            added = file.read()
            if self._sync:
                os.fsync(file.fileno())
        self._length += len(added)
        self._checksum = zlib.crc32(added, self._checksum)
        written = self._folder / f"{_RECORD}.new"
        written.write_bytes(_pack((self._number, self._length, self._checksum)))
        written.replace(self._folder / _RECORD)

    def _current(self) -> int:
        return int((self._folder / _CURRENT).read_text().strip().removeprefix(_PREFIX))

    def _path(self, number: int) -> Path:
        return self._folder / f"{_PREFIX}{number:06}"
