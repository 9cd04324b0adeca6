"""Shards are divided evenly, each is served by one engine, and none moves to an engine that must copy it first."""

from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepstream.contract.codec import encode
from stepstream.runtime.kafka.shards.placement import Claim, Placement, decode_claim, place

SHARDS = 12
ENGINES = "abcde"


@st.composite
def groups(draw: st.DrawFn) -> dict[str, Claim]:
    """Return the claims of engines: each shard is served by one of them, starts at one or at none, with any copies."""
    engines = draw(st.lists(st.sampled_from(ENGINES), min_size=1, unique=True))
    claims = {engine: Claim() for engine in engines}
    for shard in range(SHARDS):
        owner = draw(st.sampled_from([*engines, ""]))
        held = draw(st.sampled_from(["serving", "starting"]))
        for engine in engines:
            claim = claims[engine]
            if engine == owner:
                (claim.serving if held == "serving" else claim.starting)[shard] = 1
            elif copy := draw(st.sampled_from(["copied", "copying", ""])):
                claims[engine] = Claim(
                    claim.serving,
                    claim.starting,
                    claim.copied + (shard,) * (copy == "copied"),
                    claim.copying + (shard,) * (copy == "copying"),
                )
    return claims


def served(placements: Mapping[str, Placement]) -> dict[int, str]:
    """Return the engine of each shard; fail for one with two."""
    found = [(shard, engine) for engine, placement in placements.items() for shard in placement.serves]
    assert len({shard for shard, _ in found}) == len(found)
    return dict(found)


def claimed(placements: Mapping[str, Placement]) -> dict[str, Claim]:
    """Return what engines claim once they serve and have copied what they should."""
    return {
        engine: Claim(dict.fromkeys(placement.serves, 1), copied=tuple(placement.copies))
        for engine, placement in placements.items()
    }


@given(groups())
def test_every_shard_is_served_by_one_engine(claims: dict[str, Claim]) -> None:
    """Each of all shards, whatever the engines claim."""
    assert served(place(claims, SHARDS)).keys() == set(range(SHARDS))


@given(groups())
def test_shard_that_is_served_moves_only_to_a_copy(claims: dict[str, Claim]) -> None:
    """Any other move would leave it silent while its new engine reads the changelog."""
    now = served(place(claims, SHARDS))
    for engine, claim in claims.items():
        for shard in claim.serving:
            assert now[shard] == engine or shard in claims[now[shard]].copied


# Of five engines with 12 shards, two keep a third one. d and e have copied all shards but those of b. If b had to give
# one away, it would do so a round later than the others, and then another engine would have to give one away instead.
COPYING_FROM_B = {
    "a": Claim(dict.fromkeys(range(5), 1)),
    "b": Claim({7: 1, 8: 1, 11: 1}),
    "c": Claim({5: 1, 6: 1, 9: 1, 10: 1}, copied=(7, 8, 11)),
    "d": Claim(copied=(0, 1, 2, 3, 4, 5, 6, 9, 10), copying=(7, 8, 11)),
    "e": Claim(copied=(0, 1, 2, 3, 4, 5, 6, 9, 10), copying=(7, 8, 11)),
}
# The same with c in place of b; three engines have as many shards.
COPYING_FROM_C = {
    "a": Claim({0: 1, 1: 1, 3: 1, 4: 1}, copied=(2, 9, 10, 11)),
    "b": Claim({5: 1, 6: 1, 7: 1, 8: 1}),
    "c": Claim({2: 1, 9: 1, 10: 1, 11: 1}),
    "d": Claim(copied=(0, 1, 3, 4, 5, 6, 7, 8), copying=(2, 9, 10, 11)),
    "e": Claim(copied=(0, 1, 3, 4, 5, 6, 7, 8), copying=(2, 9, 10, 11)),
}


@given(groups())
@example(COPYING_FROM_B)
@example(COPYING_FROM_C)
def test_shards_are_even_once_they_are_copied(claims: dict[str, Claim]) -> None:
    """After the copies are made, one rebalance suffices; another one moves nothing."""
    placements = place(claims, SHARDS)
    even = place(claimed(placements), SHARDS)
    loads = [len(placement.serves) for placement in even.values()]
    assert max(loads) - min(loads) <= 1
    assert not any(placement.copies for placement in even.values())
    assert served(place(claimed(even), SHARDS)) == served(even)


@given(groups())
def test_engines_give_away_only_what_they_must(claims: dict[str, Claim]) -> None:
    """An engine that joins moves nothing between the others."""
    before = place(claimed(place(claims, SHARDS)), SHARDS)
    joined = place(claimed(before) | {"new": Claim()}, SHARDS)
    assert {engine for engine, placement in joined.items() if placement.copies} <= {"new"}
    assert len(joined["new"].copies) == SHARDS // len(joined)
    assert served(before) == served(joined)


@pytest.mark.parametrize(
    ("claims", "serves"),
    [
        pytest.param({"a": Claim(), "b": Claim(copied=(0, 1))}, {0: "b", 1: "a"}, id="to copies first"),
        pytest.param({"a": Claim(), "b": Claim(copying=(1,))}, {0: "a", 1: "b"}, id="to copies that are being made"),
        pytest.param({"a": Claim(starting={0: 1, 1: 1}), "b": Claim()}, {0: "b", 1: "a"}, id="starting ones move"),
        pytest.param({"a": Claim({0: 4, 1: 1}), "b": Claim({0: 5})}, {0: "b", 1: "a"}, id="the highest epoch"),
        pytest.param({"a": Claim({0: 1, 1: 1, 7: 1})}, {0: "a", 1: "a"}, id="shards that do not exist"),
    ],
)
def test_placement(claims: dict[str, Claim], serves: dict[int, str]) -> None:
    """Shards that no engine serves go at once, and copies are preferred."""
    assert served(place(claims, 2)) == serves


def test_claims_are_read_again() -> None:
    """Data of another program claims nothing."""
    claim = Claim({3: 7}, {4: -1}, (1,), (2,))
    assert decode_claim(encode(claim)) == claim
    assert [decode_claim(data) for data in (b"", b"\x00\x01sticky", b"[]")] == [Claim()] * 3
