"""The parser: the CEL grammar of cel-python, parsed by lark, with errors that have a position and a remedy.

Only the grammar of cel-python is used, not its evaluator, which multiplies strings for `"a" * 1000000000`, formats for
`"%1000000000s" % x`, reads the clock for timestamp("now"), can backtrack exponentially in duration(), copies its whole
environment for each element of a macro, and raises an error for 1 == 1.0.
"""

import functools
import re
from importlib.util import find_spec
from pathlib import Path

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from stepstream.expressions.errors import ExpressionError, error_at
from stepstream.expressions.lexis import scan_strings
from stepstream.expressions.limits import SOURCE_CHARACTERS_MAX

_HINTS = {
    "=": "write == to compare",
    "&": "write && for and",
    "|": "write || for or",
    "and": "write &&",
    "or": "write ||",
    "not": "write !",
    "is": "write ==",
    "True": "write true",
    "False": "write false",
    "None": "write null",
}


@functools.lru_cache(maxsize=1)
def _parser() -> Lark:
    # The parser of celpy drops the positions of true and false, and is one object for the whole process. The
    # package is not imported: its evaluator would take longer to load than this parser.
    celpy = find_spec("celpy")
    assert celpy is not None
    assert celpy.origin is not None
    return Lark(
        Path(celpy.origin).with_name("cel.lark").read_text(encoding="utf-8"),
        parser="lalr",
        start="expr",
        g_regex_flags=re.MULTILINE,
        lexer_callbacks={"IDENT": _bool_or_name},
        propagate_positions=True,
        maybe_placeholders=False,
        priority="invert",
    )


def _bool_or_name(token: Token) -> Token:
    return Token.new_borrow_pos("BOOL_LIT", token.value, token) if token.value in ("true", "false") else token


def parse_tree(source: str) -> "tuple[Tree[Token], dict[int, int]]":
    """Return the tree of `source` by lark, and where its string literals start and end; raise ExpressionError."""
    if len(source) > SOURCE_CHARACTERS_MAX:
        reason = f"the expression has {len(source):,} characters, at most {SOURCE_CHARACTERS_MAX:,} are allowed"
        raise ExpressionError(source[:SOURCE_CHARACTERS_MAX], 1, 1, reason)
    for position, character in enumerate(source if not source.isascii() else ""):
        if "\ud800" <= character <= "\udfff":
            raise error_at(source, position, "a lone surrogate is not a character")
    strings = scan_strings(source)
    try:
        return _parser().parse(source), strings
    except UnexpectedInput as error:
        raise _explain(source, error) from None


def _explain(source: str, error: UnexpectedInput) -> ExpressionError:
    if not source.strip():
        return ExpressionError(source, 1, 1, "the expression is empty")
    match error:
        case UnexpectedToken(token=Token(type="$END")):
            return error_at(source, len(source.rstrip()), "the expression ends too early")
        case UnexpectedToken(token=Token() as token):
            found, offset = str(token), token.start_pos or 0
        case UnexpectedCharacters(char=str() as found, pos_in_stream=int() as offset):
            pass
        case _:
            return ExpressionError(source, 1, 1, "this is not an expression")
    before = re.search(r"[_a-zA-Z]*\Z", source[:offset].rstrip())
    hint = _HINTS.get(found) or _HINTS.get(before[0] if before else "")
    return error_at(source, offset, f"{found!r} is not expected here" + (f"; {hint}" if hint else ""))
