"""What the body of a step used of a language model: tokens, and what they cost."""

import msgspec

NANO_PER_USD = 1_000_000_000


class ModelUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The tokens that a model read and wrote, and their cost in billionths of a US dollar, 0 if it is unknown.

    `model` is the name under which the provider knows the model, empty if it is unknown.
    """

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.input_tokens + self.output_tokens


NO_USAGE = ModelUsage()


def added_usage(one: ModelUsage, other: ModelUsage) -> ModelUsage:
    """Return the sum of what two attempts of a step used; the later one names the model."""
    return ModelUsage(
        other.model or one.model,
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.cost_nano_usd + other.cost_nano_usd,
    )
