"""How far the partitions of topics are folded; a topic that was deleted and created again has another id."""

from stepstream.runtime.ports import TopicPartition
from stepstream.runtime.readmodel.dialect import Database


def position_of(db: Database, at: TopicPartition, id: str) -> int:
    """Return the offset of the first record that is not folded yet, of a topic with this id (empty: unknown)."""
    topic, partition = at
    query = 'SELECT topic, "offset" FROM positions WHERE partition = ? AND (topic = ? OR topic LIKE ?)'
    found: dict[str, int] = dict(db.execute(query, (partition, topic, f"{topic} %")).fetchall())
    # Earlier releases stored no ids.
    before = found[topic] if found.keys() == {topic} else 0
    return found.get(_name(topic, id), before)


def put_position(db: Database, at: TopicPartition, id: str, offset: int) -> None:
    """Store a position."""
    upsert = (
        "INSERT INTO positions VALUES (?, ?, ?) "
        'ON CONFLICT (topic, partition) DO UPDATE SET "offset" = excluded."offset"'
    )
    db.execute(upsert, (_name(at[0], id), at[1], offset))


def _name(topic: str, id: str) -> str:
    return f"{topic} {id}" if id else topic
