"""The tokens that a run uses of models, and how many it may use."""

from collections.abc import Mapping
from typing import Any

from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.errors import TokenBudgetError
from stepstream.sdk.replay.tasks import current_body

# A count of tokens above it is a mistake.
_TOKENS_MAX = 10**15


class Spending:
    """The tokens that the code of a run has used so far, by the results that it has, and its budget (0: none)."""

    def __init__(self, function: str = "", budget: int = 0) -> None:
        self.tokens = 0
        self._function = function
        self._budget = budget

    def add(self, tokens: int) -> None:
        """Add the tokens that a step has used, once its result is given to the code."""
        self.tokens += tokens

    def check(self) -> None:
        """Raise TokenBudgetError if the run has used its budget. Call it in bodies: a replay keeps its results."""
        if 0 < self._budget <= self.tokens:
            raise TokenBudgetError(
                f"the run has used {self.tokens:,} tokens of ai_budget={self._budget:,}; "
                f"raise ai_budget= of function {self._function!r}, or ask for less"
            )


def note_usage(usage: ModelUsage) -> None:
    """Note in a body what it used of a model; limits that count units are settled by it, unless the body did that."""
    body = current_body.get()
    if body is None:
        return
    body.usage = usage
    if body.used is None:
        body.used = usage.tokens


def usage_in(value: Any) -> ModelUsage:
    """Return the usage that the answer of a model states: the APIs of OpenAI, Anthropic and Gemini name it so."""
    usage = _get(value, "usage") or _get(value, "usageMetadata")
    if callable(usage):
        usage = usage()
    model = _get(value, "model") or _get(value, "model_name") or _get(value, "modelVersion")
    read = _count(usage, "input_tokens", "prompt_tokens", "promptTokenCount")
    written = _count(usage, "output_tokens", "completion_tokens", "candidatesTokenCount")
    return ModelUsage(model if isinstance(model, str) else "", read, written)


def _count(usage: Any, *names: str) -> int:
    for name in names:
        found = _get(usage, name)
        if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= _TOKENS_MAX:
            return found
    return 0


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
