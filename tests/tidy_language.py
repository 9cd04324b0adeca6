"""The rules of language: no banned words, and short names of tests; `python -m tests.tidy_language` reports."""

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

import re2  # type: ignore[import-untyped]

from tests.tidy_rules import FUNCTIONS, ROOT, Finding, Findings, Rule, Source, read_sources

BANNED = ROOT / "tests" / "banned_words.toml"
TEST_NAME_CHARACTERS_MAX = 70

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_COMMENT = re.compile(r"(?m)^[ \t]*(?:#+|//|[-*>])[ \t]")


@functools.cache
def vocabulary() -> dict[str, list[dict[str, str]]]:
    """Return the entries of the file of banned words: `banned` and `allowed`."""
    return tomllib.loads(BANNED.read_text("utf-8"))


@functools.cache
def compile_words(*words: str) -> re.Pattern[str]:
    """Return what finds any of some entries' words in text that `plain` has prepared; group wN is the Nth of them."""
    parts = "|".join(f"(?P<w{number}>{each})" for number, each in enumerate(words))
    return re.compile(f"(?<![a-z])(?:{parts})(?![a-z])".replace(" ", r"\s+"))


@functools.cache
def _one_pass() -> tuple[Any, list[dict[str, str]], list[dict[str, str]]]:
    """Return a matcher of many patterns in one pass, its entries, and the entries whose patterns it does not know."""
    matcher, known, others = re2.Set.SearchSet(), list[dict[str, str]](), list[dict[str, str]]()
    for entry in vocabulary()["banned"]:
        has_lookaround = "(?" in entry["words"]
        (others if has_lookaround else known).append(entry)
        if not has_lookaround:
            matcher.Add(f"(?:^|[^a-z])(?:{entry['words']})(?:[^a-z]|$)".replace(" ", r"\s+"))
    matcher.Compile()
    return matcher, known, others


def may_contain(text: str) -> list[dict[str, str]]:
    """Return the banned entries that a text may contain: Python tries all patterns at each place, which is slow."""
    matcher, known, others = _one_pass()
    return [known[number] for number in matcher.Match(text) or ()] + others


def plain(text: str) -> str:
    """Return text line by line in small letters, names split into words, without the marks of comments and lists."""
    return _HUMP.sub(" ", _COMMENT.sub(" ", text).replace("_", " ")).lower()


def find_banned(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield each banned word of a text: its line, the words found, and what to write instead."""
    text = compile_words(*(entry["words"] for entry in vocabulary()["allowed"])).sub(
        lambda found: re.sub(r"\S", "-", found[0]), plain(text)
    )
    banned = may_contain(text)
    for found in compile_words(*(entry["words"] for entry in banned)).finditer(text):
        write = banned[int((found.lastgroup or "w0")[1:])]["write"]
        yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].split()), write


def words_are_plain(source: Source) -> Findings:
    """No file and no name of a file has a word of tests/banned_words.toml."""
    if source.path == BANNED.relative_to(ROOT).as_posix():
        return
    for _, words, write in find_banned(source.path):
        yield Finding(source.path, 1, f"rename the file without {words!r}: {write}")
    for line, words, write in find_banned(source.text):
        yield Finding(source.path, line, f"instead of {words!r} write: {write}")


def names_of_tests_are_short(source: Source) -> Findings:
    """The name of a test states a behaviour in at most 70 characters."""
    for node in ast.walk(source.tree):
        if isinstance(node, FUNCTIONS) and node.name.startswith("test_"):
            length = len(node.name)
            if length > TEST_NAME_CHARACTERS_MAX:
                remedy = f"{node.name} has {length} characters, {TEST_NAME_CHARACTERS_MAX} are allowed"
                yield Finding(source.path, node.lineno, remedy)


RULES: Mapping[Rule, tuple[str, ...]] = {words_are_plain: ("",), names_of_tests_are_short: ("tests/",)}


def main() -> None:
    """Print what breaks the rules in files whose paths start with an argument, or in all files without arguments."""
    prefixes = tuple(sys.argv[1:]) or ("",)
    for source in read_sources():
        if source.path.startswith(prefixes):
            for rule in RULES:
                if rule is words_are_plain or source.path.endswith(".py"):
                    sys.stdout.writelines(f"{finding}\n" for finding in rule(source))


if __name__ == "__main__":
    main()
