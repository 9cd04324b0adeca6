"""What steps and runs used of language models, as views have it."""

from collections.abc import Iterable
from dataclasses import dataclass

from stepstream.contract.model_usage import NANO_PER_USD, ModelUsage
from stepstream.contract.text.wording import counted


@dataclass(frozen=True, slots=True)
class UsageView:
    """The tokens that models read and wrote. `cost_usd` is 0 if it is unknown, `model` empty if there were several."""

    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float


def usage_of(usage: ModelUsage) -> UsageView | None:
    """Return what was used of a model, None if nothing was."""
    if not usage.tokens:
        return None
    return UsageView(usage.model, usage.input_tokens, usage.output_tokens, usage.cost_nano_usd / NANO_PER_USD)


def total_usage(usages: Iterable[UsageView | None]) -> UsageView | None:
    """Return the sum of what steps used of models, None if they used none."""
    used = [usage for usage in usages if usage]
    if not used:
        return None
    models = {usage.model for usage in used}
    return UsageView(
        models.pop() if len(models) == 1 else "",
        sum(usage.input_tokens for usage in used),
        sum(usage.output_tokens for usage in used),
        # Without the digits that adding fractions leaves.
        round(sum(usage.cost_usd for usage in used), 9),
    )


def tokens_text(usage: UsageView) -> str:
    """Return the number of tokens for people."""
    return counted(usage.input_tokens + usage.output_tokens, "token")


def usage_text(usage: UsageView) -> str:
    """Return tokens and cost for people."""
    cost = f", ${usage.cost_usd:,.4f}" if usage.cost_usd else ""
    return f"{usage.input_tokens:,} in, {usage.output_tokens:,} out{cost}"
