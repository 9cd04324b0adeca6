"""What a step asks a language model, and its answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from stepstream.contract.model_usage import NANO_PER_USD, ModelUsage

T = TypeVar("T")
Publish = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Inference(Generic[T]):
    """The answer of a model, as `ctx.step.ai.infer` returns it; the step keeps all of it.

    Attributes:
        output: The text, or a value of `output_type`.
        model: The name under which the provider knows the model that answered.
        parts: The parts of the response as JSON: texts, thoughts and calls of tools.
        finish_reason: Why the model stopped, such as `stop` or `length`; empty if unknown.
        input_tokens: The tokens that the model read.
        output_tokens: The tokens that it wrote.
        cost_usd: What that cost, None if the price of the model is unknown.
    """

    output: T
    model: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    @property
    def usage(self) -> ModelUsage:
        """The tokens and the cost, as the step reports them."""
        cost = round((self.cost_usd or 0) * NANO_PER_USD)
        return ModelUsage(self.model, self.input_tokens, self.output_tokens, cost)


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages before a question, as one argument of a step."""

    messages: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What a step asks a model; `publish` gets the pieces of the text while the model writes it."""

    model: Any
    prompt: str
    messages: Sequence[Any]
    instructions: str
    settings: Mapping[str, Any] | None
    output_type: Any
    publish: Publish | None
