"""The translation of the parser's tree to the syntax tree: it checks limits and names, and expands macros."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

from lark import Token, Tree

from stepstream.expressions.arithmetic import INT_MAX, INT_MIN, UINT_MAX
from stepstream.expressions.cel import parse_tree
from stepstream.expressions.errors import error_at
from stepstream.expressions.functions import FUNCTIONS, regex
from stepstream.expressions.lexis import decode_string
from stepstream.expressions.limits import (
    COMPREHENSION_LEVELS_MAX,
    NESTING_LEVELS_MAX,
    REGEXES_PER_EXPRESSION_MAX,
    SYNTAX_NODES_MAX,
)
from stepstream.expressions.syntax import (
    Binary,
    Call,
    Comprehension,
    Conditional,
    Element,
    Has,
    Index,
    ListDisplay,
    Literal,
    Logical,
    MapDisplay,
    Node,
    Select,
    Span,
    Unary,
    Variable,
)
from stepstream.expressions.values import TYPE_NAMES, Uint

Branch: TypeAlias = Tree[Token]
Scope: TypeAlias = Mapping[str, int]

_MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "filter": (2,), "map": (2, 3)}
_OPERATORS = {
    "relation_lt": "<",
    "relation_le": "<=",
    "relation_gt": ">",
    "relation_ge": ">=",
    "relation_eq": "==",
    "relation_ne": "!=",
    "relation_in": "in",
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
    "unary_not": "!",
    "unary_neg": "-",
}


def translate(source: str) -> Node:
    """Return the syntax tree of `source`; raise ExpressionError with the position and the reason."""
    tree, strings = parse_tree(source)
    return _Translation(source, strings).node(tree, 0, {})


class _Translation:
    """One walk over the tree; it recurses at most NESTING_LEVELS_MAX times, since node() counts the levels."""

    def __init__(self, source: str, strings: Mapping[int, int]) -> None:
        self.source = source
        self.strings = strings
        self.nodes = 0
        self.regexes = 0
        self.rules: dict[str, Callable[[Branch, int, Scope], Node]] = {
            "expr": self.conditional,
            "conditionalor": self.logical,
            "conditionaland": self.logical,
            "relation": self.binary,
            "addition": self.binary,
            "multiplication": self.binary,
            "unary": self.unary,
            "member_dot": self.select,
            "member_index": self.index,
            "member_dot_arg": self.method,
            "ident_arg": self.function,
            "ident": self.name,
            "list_lit": self.list_display,
            "map_lit": self.map_display,
            "literal": self.literal,
        }

    def refuse(self, place: Branch | Token, reason: str) -> NoReturn:
        start = place.start_pos if isinstance(place, Token) else place.meta.start_pos
        raise error_at(self.source, start or 0, reason)

    def node(self, tree: Branch, level: int, scope: Scope) -> Node:
        """Translate a part of the parse tree; parentheses and rules with one child produce no node of their own."""
        while len(tree.children) == 1 and isinstance(tree.children[0], Tree) and tree.data not in self.rules_of_one:
            level += tree.data == "paren_expr"
            tree = tree.children[0]
        if level > NESTING_LEVELS_MAX:
            self.refuse(tree, f"the expression is nested deeper than {NESTING_LEVELS_MAX} levels")
        self.nodes += 1
        if self.nodes > SYNTAX_NODES_MAX:
            self.refuse(tree, f"the expression has more than {SYNTAX_NODES_MAX} parts; split it or compare with a list")
        if tree.data not in self.rules:
            self.refuse(tree, "messages and names with a leading dot are not supported")
        return self.rules[tree.data](tree, level + 1, scope)

    rules_of_one = frozenset(("list_lit", "map_lit", "ident_arg", "ident", "literal", "dot_ident", "member_object"))

    def conditional(self, tree: Branch, level: int, scope: Scope) -> Node:
        condition, chosen, otherwise = (self.node(child, level, scope) for child in branches(tree))
        return Conditional(span(tree), condition, chosen, otherwise)

    def logical(self, tree: Branch, level: int, scope: Scope) -> Node:
        # The grammar nests a && b && c to the left; flattened here, so that a long chain is not a deep tree.
        rule, parts, rest = tree.data, list[Branch](), tree
        while rest.data == rule and len(rest.children) == 2:
            rest, last = branches(rest)
            parts.append(last)
        symbol = "||" if rule == "conditionalor" else "&&"
        operands: list[Node] = []
        for part in (rest, *reversed(parts)):
            operand = self.node(part, level, scope)
            nested = isinstance(operand, Logical) and operand.operator == symbol
            operands.extend(operand.operands if nested and isinstance(operand, Logical) else (operand,))
        return Logical(span(tree), symbol, tuple(operands))

    def binary(self, tree: Branch, level: int, scope: Scope) -> Node:
        left, right = branches(tree)
        operator = _OPERATORS[left.data]
        return Binary(span(tree), operator, self.node(branches(left)[0], level, scope), self.node(right, level, scope))

    def unary(self, tree: Branch, level: int, scope: Scope) -> Node:
        symbol, operand = branches(tree)
        return Unary(span(tree), _OPERATORS[symbol.data], self.node(operand, level, scope))

    def select(self, tree: Branch, level: int, scope: Scope) -> Node:
        operand, field = tree.children
        return Select(span(tree), self.node(as_branch(operand), level, scope), str(field))

    def index(self, tree: Branch, level: int, scope: Scope) -> Node:
        operand, index = (self.node(child, level, scope) for child in branches(tree))
        if isinstance(index, Literal) and isinstance(index.value, str):
            return Select(span(tree), operand, index.value)
        return Index(span(tree), operand, index)

    def method(self, tree: Branch, level: int, scope: Scope) -> Node:
        name, arguments = as_token(tree.children[1]), arguments_of(tree)
        if name in _MACROS:
            return self.comprehension(tree, name, level, scope)
        function = FUNCTIONS.get(name)
        if function is None or not function.as_method:
            self.refuse(name, f"there is no method {str(name)!r}" + known("methods", "as_method"))
        if len(arguments) + 1 not in function.as_method:
            expected = " or ".join(str(count - 1) for count in sorted(function.as_method))
            self.refuse(name, f"{name}() takes {expected} arguments here, {len(arguments)} are given")
        receiver = self.node(as_branch(tree.children[0]), level, scope)
        return self.call(name, (receiver, *(self.node(part, level, scope) for part in arguments)), tree)

    def function(self, tree: Branch, level: int, scope: Scope) -> Node:
        name, arguments = as_token(tree.children[0]), arguments_of(tree)
        if name in ("has", "dyn"):
            if len(arguments) != 1:
                self.refuse(name, f"{name}() takes one argument, {len(arguments)} are given")
            operand = self.node(arguments[0], level, scope)
            if name == "has" and not isinstance(operand, Select):
                self.refuse(arguments[0], "has() takes a field, as in has(event.data.total)")
            return Has(span(tree), operand) if name == "has" else operand
        function = FUNCTIONS.get(name)
        if function is None or not function.as_function:
            is_method = function is not None or name in _MACROS
            remedy = f"; write it as a method, x.{name}(...)" if is_method else known("functions", "as_function")
            self.refuse(name, f"there is no function {str(name)!r}{remedy}")
        if len(arguments) not in function.as_function:
            expected = " or ".join(str(count) for count in sorted(function.as_function))
            self.refuse(name, f"{name}() takes {expected} arguments, {len(arguments)} are given")
        return self.call(name, tuple(self.node(part, level, scope) for part in arguments), tree)

    def call(self, name: Token, arguments: tuple[Node, ...], tree: Branch) -> Node:
        if name == "matches":
            pattern = arguments[1]
            self.regexes += 1
            if self.regexes > REGEXES_PER_EXPRESSION_MAX:
                self.refuse(
                    name, f"the expression has more than {REGEXES_PER_EXPRESSION_MAX} patterns; join them with |"
                )
            if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
                self.refuse(name, "the pattern of matches() must be a string literal")
            try:
                regex(pattern.value)
            except ValueError as error:
                self.refuse(name, f"matches(): {error}")
        return Call(span(tree), str(name), arguments)

    def comprehension(self, tree: Branch, name: Token, level: int, scope: Scope) -> Node:
        arguments = arguments_of(tree)
        if len(arguments) not in _MACROS[name]:
            expected = " or ".join(map(str, _MACROS[name]))
            self.refuse(
                name, f"{name}() takes {expected} arguments, {len(arguments)} are given, as in x.{name}(e, e > 0)"
            )
        variable = bare_name(arguments[0])
        if variable is None:
            self.refuse(
                arguments[0], f"the first argument of {name}() is a name for the element, as in x.{name}(e, e > 0)"
            )
        depth = max(scope.values(), default=-1) + 1
        if depth >= COMPREHENSION_LEVELS_MAX:
            self.refuse(name, f"{name}() is nested deeper than {COMPREHENSION_LEVELS_MAX} levels")
        elements = self.node(as_branch(tree.children[0]), level, scope)
        parts = [self.node(part, level, {**scope, variable: depth}) for part in arguments[1:]]
        return Comprehension(span(tree), str(name), depth, elements, parts[0] if len(parts) > 1 else None, parts[-1])

    def name(self, tree: Branch, level: int, scope: Scope) -> Node:
        name = str(tree.children[0])
        if name in scope:
            return Element(span(tree), scope[name])
        return Literal(span(tree), TYPE_NAMES[name]) if name in TYPE_NAMES else Variable(span(tree), name)

    def list_display(self, tree: Branch, level: int, scope: Scope) -> Node:
        items = branches(branches(tree)[0]) if tree.children else []
        return ListDisplay(span(tree), tuple(self.node(item, level, scope) for item in items))

    def map_display(self, tree: Branch, level: int, scope: Scope) -> Node:
        parts = [self.node(part, level, scope) for part in branches(branches(tree)[0])] if tree.children else []
        return MapDisplay(span(tree), tuple(zip(parts[::2], parts[1::2], strict=True)))

    def literal(self, tree: Branch, level: int, scope: Scope) -> Node:
        token = as_token(tree.children[0])
        return Literal(span(tree), self.literal_value(token))

    def literal_value(self, token: Token) -> Any:
        text, start, end = str(token), token.start_pos or 0, token.end_pos or 0
        match token.type:
            case "NULL_LIT":
                return None
            case "BOOL_LIT":
                return text == "true"
            case "FLOAT_LIT":
                value = float(text)
                return value if value - value == 0.0 else self.refuse(token, "the number is too large for a double")
            case "INT_LIT":
                whole = whole_number(text)
                return whole if INT_MIN <= whole <= INT_MAX else self.refuse(token, "the number does not fit 64 bits")
            case "UINT_LIT":
                whole = whole_number(text[:-1])
                return Uint(whole) if 0 <= whole <= UINT_MAX else self.refuse(token, "the number does not fit 64 bits")
        if self.strings.get(start) != end:
            self.refuse(token, "this string is ambiguous; put spaces around it")
        return decode_string(self.source, start, end)


def span(tree: Branch) -> Span:
    """Return where a part is in the source, including its parentheses."""
    return Span(tree.meta.start_pos, tree.meta.end_pos)


def as_branch(child: Branch | Token) -> Branch:
    assert isinstance(child, Tree)
    return child


def as_token(child: Branch | Token) -> Token:
    assert isinstance(child, Token)
    return child


def branches(tree: Branch) -> list[Branch]:
    """Return the children of a part, none of which is a token."""
    return [as_branch(child) for child in tree.children]


def arguments_of(tree: Branch) -> list[Branch]:
    """Return the arguments of a function or method call."""
    last = tree.children[-1]
    return branches(last) if isinstance(last, Tree) and last.data == "exprlist" else []


def bare_name(tree: Branch) -> str | None:
    """Return the name if a part is nothing but a name, else None."""
    while len(tree.children) == 1 and isinstance(tree.children[0], Tree) and tree.data != "paren_expr":
        tree = tree.children[0]
    return str(tree.children[0]) if tree.data == "ident" else None


def whole_number(text: str) -> int:
    """Return the value of a decimal or hexadecimal literal."""
    return int(text, 16) if "0x" in text[:3] else int(text)


def known(what: str, shape: str) -> str:
    """Return the end of an error message, which lists the known functions or methods."""
    names = sorted(name for name, function in FUNCTIONS.items() if getattr(function, shape))
    return f"; the {what} are {', '.join(names)}"
