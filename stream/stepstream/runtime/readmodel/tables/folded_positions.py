"""How far the partitions of topics are folded; a topic that was deleted and created again has another id."""

from stepstream.runtime.ports import TopicPartition
from stepstream.runtime.readmodel.dialect import Database


def position_of(db: Database, at: TopicPartition, id: str) -> int:
    """Return the offset of the first record that is not folded yet, of a topic with this id (empty: unknown)."""
    query = 'SELECT topic_id, "offset" FROM positions WHERE topic = ? AND partition = ?'
    found: dict[str, int] = dict(db.execute(query, at).fetchall())
    # While the id was unknown, the topic is assumed to have been the same.
    before = found[""] if found.keys() == {""} else 0
    return found.get(id, before)


def put_position(db: Database, at: TopicPartition, id: str, offset: int) -> None:
    """Store a position."""
    upsert = (
        "INSERT INTO positions VALUES (?, ?, ?, ?) "
        'ON CONFLICT (topic, topic_id, partition) DO UPDATE SET "offset" = excluded."offset"'
    )
    topic, partition = at
    db.execute(upsert, (topic, id, partition, offset))
