"""The tokens that answers of models state, and the budget of a run."""

from types import SimpleNamespace
from typing import Any

import pytest

from stepstream import App, Context, DefinitionError, on
from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.spending import usage_in

ANSWERS = {
    "OpenAI": {"model": "gpt", "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}},
    "Anthropic": {"model": "gpt", "usage": {"input_tokens": 3, "output_tokens": 5}},
    "Gemini": {"modelVersion": "gpt", "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5}},
    "an object": SimpleNamespace(model="gpt", usage=SimpleNamespace(input_tokens=3, output_tokens=5)),
    "a method": SimpleNamespace(model_name="gpt", usage=lambda: {"input_tokens": 3, "output_tokens": 5}),
}


@pytest.mark.parametrize("provider", ANSWERS)
def test_the_usage_of_an_answer_is_read(provider: str) -> None:
    """Each provider names it in its own way."""
    assert usage_in(ANSWERS[provider]) == ModelUsage("gpt", 3, 5)


@pytest.mark.parametrize(
    "answer", [None, "text", [1], {"usage": None}, {"usage": "3"}, {"usage": {"input_tokens": True}}, {"model": 5}]
)
def test_an_answer_without_usage_has_none(answer: Any) -> None:
    """Whatever a callable returns is no error."""
    assert usage_in(answer) == ModelUsage()


@pytest.mark.parametrize("budget", [-1, True, 1.5, "9"])
def test_a_wrong_budget_is_refused(budget: Any) -> None:
    """The error names the function and the option."""

    async def function(ctx: Context) -> None:
        pass

    with pytest.raises(DefinitionError, match=r"function 'function': ai_budget=.*: use a whole number of tokens"):
        App("a").function(on("b"), ai_budget=budget)(function)
