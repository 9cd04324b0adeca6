"""Limits of GraphQL queries: how long they are, how deep, and how many fields their answers have."""

from collections.abc import Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    parse,
)

CHARACTERS_MAX, TOKENS_MAX, DEPTH_MAX, FIELDS_MAX = 16 * 1024, 1_000, 20, 10_000
# The estimated length of each list. Some may be longer, but then few of their items have long lists of their own.
_ITEMS = {"childrenSpans": 2, "triggers": 2, "functionRuns": 10, "edges": 100, "events": 100, "stream": 100}


def parse_query(_context: Any, data: Any) -> DocumentNode:
    """Return the query of a request; raise GraphQLError for one that is too long."""
    text = data["query"]
    if len(text) > CHARACTERS_MAX:
        raise GraphQLError(f"the query has {len(text):,} characters, at most {CHARACTERS_MAX:,} are allowed")
    return parse(text, max_tokens=TOKENS_MAX)


def check_cost(document: DocumentNode, items: Mapping[str, int]) -> None:
    """Raise GraphQLError for a query whose answer would have too many fields.

    `items` are the lengths of lists, by field. The number of fields is an estimate, in which nested lists multiply.
    """
    fields = _Fields(document, {**_ITEMS, **items})
    roots = (each for each in document.definitions if isinstance(each, OperationDefinitionNode))
    if (found := sum(fields.of(each.selection_set, 1) for each in roots)) > FIELDS_MAX:
        raise GraphQLError(f"the answer would have about {found:,} fields, at most {FIELDS_MAX:,}: nest fewer lists")


class _Fields:
    """Counts the fields of answers."""

    def __init__(self, document: DocumentNode, items: Mapping[str, int]) -> None:
        found = (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))
        self._fragments = {each.name.value: each.selection_set for each in found}
        self._items = items
        self._known: dict[tuple[str, int], int] = {}

    def of(self, selected: SelectionSetNode | None, depth: int) -> int:
        """Return how many fields an object has; raise GraphQLError below DEPTH_MAX levels."""
        if depth > DEPTH_MAX:
            raise GraphQLError(f"the query has more than {DEPTH_MAX} levels")
        return sum(self._of_one(each, depth) for each in selected.selections) if selected else 0

    def _of_one(self, node: SelectionNode, depth: int) -> int:
        if isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if (name, depth) not in self._known:
                self._known[name, depth] = self.of(self._fragments.get(name), depth + 1)
            return self._known[name, depth]
        inner: SelectionSetNode | None = getattr(node, "selection_set", None)
        if not isinstance(node, FieldNode):
            return self.of(inner, depth + 1)
        field = node.name.value
        # The library limits introspection itself, of which our schema has little.
        return 1 if field.startswith("__") else 1 + self._items.get(field, 1) * self.of(inner, depth + 1)
