"""Asks people whether an agent may call a tool."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepstream.contract.limits import APPROVAL_DESCRIPTION_CHARACTERS_MAX, APPROVAL_TITLE_CHARACTERS_MAX
from stepstream.contract.text.durations import Duration
from stepstream.sdk.context import Context

_CUT = "…"


@dataclass(frozen=True, slots=True)
class Approvals:
    """How long a person has for each approval (at most 366 days), and who should decide; names are not enforced."""

    timeout: Duration = "7d"
    to: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """A call of a tool that needs an approval: the name of the agent, the tool, the id of the call, its arguments."""

    agent: str
    tool: str
    call_id: str
    arguments: str


async def refusal_of(ctx: Context, approvals: Approvals, request: ToolRequest) -> str:
    """Wait for the decision of a person; return what is said to the model in place of a result, "" if it may call."""
    decision = await ctx.step.wait_for_approval(
        f"{request.agent}/approve/{request.tool}/{request.call_id}",
        title=_cut(f"Call {request.tool}?", APPROVAL_TITLE_CHARACTERS_MAX),
        description=_cut(request.arguments, APPROVAL_DESCRIPTION_CHARACTERS_MAX),
        timeout=approvals.timeout,
        to=approvals.to,
    )
    if decision is None:
        return "No person decided in time."
    return "" if decision.approved else f"{decision.by} refused. {decision.comment}".strip()


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 1] + _CUT
