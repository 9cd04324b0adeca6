"""Canonical JSON, signatures and seeds, by the worked examples of their specifications."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.errors import InvalidInput, NotJson
from stepstream.gateway.wire.canonical import canonical, canonical_json
from stepstream.gateway.wire.seeds import seeded_ids
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.exchanges import KEY

_BODY = '{"event":{"data":{"n":1,"s":"é"},"name":"demo/hello"},"steps":{}}'.encode()
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_VALUES)
def test_canonical_json_has_the_same_value(value: object) -> None:
    """It reads as the same value, is its own canonical form, and has its keys in the order of UTF-16."""
    text = canonical(value)
    assert json.loads(text, parse_int=float) == value
    assert canonical(json.loads(text)) == text
    assert bytes(canonical_json(json.dumps(value).encode())) == text
    if isinstance(value, dict):
        assert list(json.loads(text)) == sorted(value, key=lambda name: name.encode("utf-16-be"))


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e300, "1.5e+300"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (333333333.33333329, "333333333.3333333"),
        (5e-324, "5e-324"),
        (9007199254740991, "9007199254740991"),
        (9007199254740993, "9007199254740992"),
        (-(2**60) - 1, "-1152921504606847000"),
        (123.456, "123.456"),
    ],
)
def test_numbers_are_those_of_ecmascript(number: float, text: str) -> None:
    """Numbers have the shortest digits of a double, with an exponent where ECMAScript writes one."""
    assert canonical([number]).decode() == f"[{text}]"


def test_ordinary_json_is_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers with a fraction, as in embeddings, need no walk in Python, whose cost grew with the depth too."""
    monkeypatch.setattr("stepstream.gateway.wire.canonical._rewritten", lambda _: pytest.fail("walked"))
    value: list[object] = [0.25, -12.5, "1.50", 7, None, 1234.5678]
    for _ in range(90):
        value = [value]
    assert canonical(value) == json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize("text", [b"[1.0,3.0]", b'{"a":1.0}', b"2.0", b"[1E2]", b"[10000000000000000000.5]"])
def test_unusual_numbers_are_found_wherever_they_are(text: bytes) -> None:
    """What the encoder writes in another way is noticed in a list, in an object and alone."""
    assert not {b".0", b".5", b"E"} & {bytes(canonical_json(text))[i : i + size] for i in range(20) for size in (1, 2)}


def test_strings_and_keys_are_as_in_rfc_8785() -> None:
    """Only quotes, backslashes and control characters are escaped; keys are sorted as UTF-16."""
    value = {"\U0001f600": 1, "\ufb33": 2, "€": 3, "\r": 4, "1": 5, "\u0080": '\x00\x7f\u2028/"\\'}
    assert canonical(value).decode() == (
        '{"\\r":4,"1":5,"\u0080":"\\u0000\x7f\u2028/\\"\\\\","€":3,"\U0001f600":1,"\ufb33":2}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {1: 2}, {"a": {3}}, b"x"])
def test_what_is_not_json_is_refused(value: object) -> None:
    """The error says which part of a value has no JSON form."""
    with pytest.raises(NotJson, match="is not JSON"):
        canonical(value)


@pytest.mark.parametrize(
    "text", [b"[" * 200 + b"]" * 200, b"1" + b"0" * 400, b"1" + b"0" * 310, b'"\\udc00"', b"NaN", b"", b"[1,]"]
)
def test_hostile_text_is_refused(text: bytes) -> None:
    """Depth and numbers are bounded, and text that is not JSON has a reason."""
    with pytest.raises(InvalidInput):
        canonical_json(text)


def test_signature_of_the_worked_example() -> None:
    """The key of a signature is the text of its digits, and that of a bearer token their bytes."""
    key = SigningKey(KEY)
    assert canonical({"steps": {}, "event": {"name": "demo/hello", "data": {"n": 1.0, "s": "é"}}}) == _BODY
    signature = "29a44934ab90d8e26f3e5c0282485fe3b41941a16a5f99c88c6deb6f9def01d4"
    assert key.sign(_BODY, 1_700_000_000) == f"t=1700000000&s={signature}"
    assert key.sign(b"", 1_700_000_000).endswith("f22862ce6d4cf456de489432c4d0a7ac207aed43587f7b62cdde6cda8549bdad")
    answer = b'[{"op":"StepRun","id":"e0996a37c13d44c3b06074939d43fa3759bd32c1","data":"A"}]'
    header = "t=1700000000&s=4a6a3f5b3db313346d11d6c5812ea5f07c312cbe06e965b3de37ce82961d5606"
    assert key.verify(header, answer, 1_700_000_001)
    assert key.bearer == "4773d12e2371bb935b9a0f5439b4a1c3ad3f2414b86980f8418d1cfabdfadfef"
    assert "0011" not in repr(key)


@pytest.mark.parametrize(
    "header", ["", "t=1700000000", "s=1&t=1700000000", "t=1&s=" + "0" * 64, "t=x&s=y", "t=" + "9" * 99]
)
def test_malformed_signature_is_not_verified(header: str) -> None:
    """A header that is malformed, old or of another body is no signature."""
    assert not SigningKey(KEY).verify(header, b"{}", 1_700_000_000)


@pytest.mark.parametrize("key", ["", "signkey-test-", "signkey-test-012", "signkey-test-xy", "plain key"])
def test_malformed_key_is_refused(key: str) -> None:
    """A key without an even number of hex digits is refused at the start, and the error does not show it."""
    with pytest.raises(InvalidInput, match="even number of hex digits"):
        SigningKey(key)


@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer undefined", "Bearer signkey-test-", "Basic abc", "Bearer é"])
def test_other_bearer_is_not_accepted(token: str) -> None:
    """What SDKs send without a key is no authorization."""
    assert not SigningKey(KEY).accepts(token)


def test_seeded_ids_count_from_one() -> None:
    """A repeated request has the same ids, the first of which differs from the seed by one."""
    ids = ["01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT"]
    assert seeded_ids("1743130137367,eii2YKXRVTJPuA==", 2) == ids
    assert seeded_ids("0,AAAAAAAA/////w==", 1) == ["00000000000000000000000000"]
    assert seeded_ids("281474976710655,//////////////8=", 1) is None


@pytest.mark.parametrize(
    "seed", ["", "1", "1,AAAA", "x,eii2YKXRVTJPuA==", "-1,eii2YKXRVTJPuA==", "281474976710656,eii2YKXRVTJPuA=="]
)
def test_malformed_seed_is_ignored(seed: str) -> None:
    """An event without a usable seed gets an id of the server."""
    assert seeded_ids(seed, 1) is None
