"""The names that are checked in several places: parts of topic names, and signals."""

import re

from stepstream.contract.codec import has_lone_surrogate
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import SIGNAL_NAME_CHARACTERS_MAX, TOPIC_CHARACTERS_MAX, WORKERS_NAME_CHARACTERS_MAX

# The product in the header `User-Agent` of our commands.
CLIENT_NAME = "stepstream"
_TOPIC_PART = re.compile(r"[A-Za-z0-9._-]+")


def check_topic_part(name: str) -> None:
    """Raise InvalidInput if a text cannot be part of a Kafka topic name."""
    if not _TOPIC_PART.fullmatch(name):
        raise InvalidInput("use letters a to z and A to Z, digits, '.', '_' and '-'; Kafka allows no others")


def check_signal_name(name: object) -> str:
    """Return the name of a signal; raise InvalidInput unless it is a string of 1 to 1,024 characters in UTF-8."""
    if not isinstance(name, str) or not 0 < len(name) <= SIGNAL_NAME_CHARACTERS_MAX or has_lone_surrogate(name):
        raise InvalidInput(f"use a string of 1 to {SIGNAL_NAME_CHARACTERS_MAX} characters", "signal")
    return name


def workers_name(app: str, queue: str = "") -> str:
    """Return the name of the workers that share a topic of commands."""
    return f"{app}.{queue}" if queue else app


def check_workers_name(name: str) -> None:
    """Raise InvalidInput if the name of an app, or of an app with its queue, cannot be part of a topic name."""
    check_topic_part(name)
    if len(name) > WORKERS_NAME_CHARACTERS_MAX:
        raise InvalidInput(
            f"{len(name)} characters; of the {TOPIC_CHARACTERS_MAX} that Kafka allows a topic, an app with its queue "
            f"has {WORKERS_NAME_CHARACTERS_MAX}"
        )
