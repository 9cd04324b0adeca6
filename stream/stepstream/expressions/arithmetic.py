"""The arithmetic of CEL: 64-bit integers with an error on overflow, doubles, and concatenation of strings and lists.

An int and a double may be mixed and give a double. The CEL specification refuses that, but JSON has one kind of number:
a price that is 10 today and 10.5 tomorrow must not turn a condition into an error.
"""

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta

from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import BUILT_ITEMS_MAX, TEXT_CHARACTERS_PER_VISIT
from stepstream.expressions.values import Uint, no_overload

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
UINT_MAX = 2**64 - 1
_DOUBLES = frozenset((int, float))
_JOINED = frozenset((str, bytes, list))


def to_int(value: int) -> int:
    """Return `value` as an int; raise Fault outside of 64 bits."""
    if INT_MIN <= value <= INT_MAX:
        return int(value)
    raise Fault("the result overflows a 64-bit int")


def to_uint(value: int) -> Uint:
    """Return `value` as a Uint; raise Fault outside of 64 bits."""
    if 0 <= value <= UINT_MAX:
        return Uint(value)
    raise Fault("the result overflows a 64-bit uint")


def _whole(symbol: str, left: int, right: int) -> int:
    match symbol:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        raise Fault(f"{symbol} by zero")
    # CEL rounds toward zero and gives the remainder the sign of the dividend; Python does neither.
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if symbol == "/" else left - quotient * right


_FRACTIONAL: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _fractional(symbol: str, left: float, right: float) -> float:
    if symbol in _FRACTIONAL:
        return _FRACTIONAL[symbol](left, right)
    if right != 0.0:
        return left / right
    return math.nan if left == 0.0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)


def _join(frame: Frame, left: Value, right: Value) -> Value:
    size = len(left) + len(right)
    if size > BUILT_ITEMS_MAX:
        raise Fault(
            f"+ would build a value of {size:,} characters or elements; at most {BUILT_ITEMS_MAX:,} are allowed"
        )
    frame.charge(1 + (size if isinstance(left, list) else size // TEXT_CHARACTERS_PER_VISIT))
    return left + right


def _temporal(symbol: str, left: Value, right: Value) -> Value:
    match symbol, left, right:
        case "+", datetime() | timedelta(), timedelta():
            return left + right
        case "+", timedelta(), datetime():
            return right + left
        case "-", datetime(), datetime() | timedelta():
            return left - right
        case "-", timedelta(), timedelta():
            return left - right
    raise no_overload(symbol, left, right)


def calculate(frame: Frame, symbol: str, left: Value, right: Value) -> Value:
    """Return `left symbol right` for + - * / %; raise Fault for types that do not fit, overflow or a zero divisor."""
    kind, other = left.__class__, right.__class__
    try:
        if kind is int and other is int:
            return to_int(_whole(symbol, left, right))
        if kind in _DOUBLES and other in _DOUBLES and symbol != "%":
            return _fractional(symbol, float(left), float(right))
        if kind is Uint and other is Uint:
            return to_uint(_whole(symbol, left, right))
        if symbol == "+" and kind is other and kind in _JOINED:
            return _join(frame, left, right)
        return _temporal(symbol, left, right)
    except OverflowError:
        raise Fault(f"the result of {symbol} is out of range") from None


def negate(operand: Value) -> Value:
    """Return `-operand` for an int or a double."""
    if operand.__class__ is int:
        return to_int(-operand)
    if operand.__class__ is float:
        return -operand
    raise no_overload("-", operand)
