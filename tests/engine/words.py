"""The words of one line of a record table."""

from collections.abc import Callable

RunOf = Callable[[str], str]


class Words:
    """The words of one record: those in order, and those of the form `name=value`; each must be consumed."""

    def __init__(self, text: str) -> None:
        words = text.split()
        named = [word for word in words if word.partition("=")[0].isidentifier() and "=" in word]
        self.named = dict(word.split("=", 1) for word in named)
        self.plain = [word for word in words if word not in named]

    def take(self, default: str = "") -> str:
        """Return the next word in order."""
        return self.plain.pop(0) if self.plain else default

    def number(self, name: str, default: int = 0) -> int:
        """Return a named number."""
        return int(self.named.pop(name, default))

    def text(self, name: str) -> str:
        """Return a named text; an underscore stands for a space."""
        return self.named.pop(name, "").replace("_", " ")

    def has(self, word: str) -> bool:
        """Consume a word at any place; return whether it occurred."""
        if word in self.plain:
            self.plain.remove(word)
            return True
        return False

    def end(self) -> None:
        """Fail if words are left: a table must not have words without effect."""
        assert not self.plain, f"unknown words {self.plain}"
        assert not self.named, f"unknown words {self.named}"
