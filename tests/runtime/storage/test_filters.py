"""Files of tables have filters of their keys, so that a read of a row that a file does not have is cheap."""

from pathlib import Path

from stepstream.runtime.storage.rocks_store import RocksStore


def test_files_have_filters_of_their_keys(tmp_path: Path) -> None:
    """About ten bits for each key; without them, a read looks into each file that may have the row."""
    store = RocksStore(tmp_path / "shard", lambda: 0, 1)
    store.open()
    store.write([(b"a%05d" % row, b"x") for row in range(4_000)], 1)
    assert store._db is not None
    store._db._db.flush()
    properties = store._db._db.property_value("rocksdb.aggregated-table-properties")
    assert properties
    (size,) = [text.partition("=")[2] for text in properties.split("; ") if text.startswith("filter block size=")]
    assert 4_000 <= int(size) <= 6_000
    assert store.get(b"a00001x") is None
    store.close()
