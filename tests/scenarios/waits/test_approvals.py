"""A step that waits for a person: the first decision counts, with who made it and the values of its form."""

from dataclasses import dataclass

import pydantic
import pytest

from stepstream import App, Approval, Context, Event, StepError, StepUsageError, ThreadedContext, on
from stepstream.contract.errors import InvalidInput
from stepstream.contract.operators.approvals import approval_signal
from tests.scenarios.conftest import EngineOf


class Amount(pydantic.BaseModel):
    """What the person fills in."""

    amount: int = pydantic.Field(gt=0)
    note: str = ""


@dataclass
class Choice:
    """A form as a dataclass."""

    color: str


def refund_app() -> App:
    """Return an app that asks how much to refund."""
    app = App("refunds")

    @app.function(on("refund.asked"))
    async def refund(ctx: Context) -> object:
        decision = await ctx.step.wait_for_approval(
            "refund", title="Refund order 42?", description="A cup broke.", to=["ann"], form=Amount, timeout="3d"
        )
        if decision is None:
            return "no decision"
        amount = decision.values.amount if decision.values else 0
        return [decision.approved, decision.by, decision.comment, amount, decision.at.isoformat()]

    return app


async def test_approval_has_values_person_and_time(engine_of: EngineOf) -> None:
    """The code gets who decided, when, and the values as the declared model."""
    async with engine_of(refund_app()) as engine:
        await engine.send(Event("refund.asked"))
        (asked,) = engine.index.open_approvals()
        assert (asked.title, asked.description, asked.to) == ("Refund order 42?", "A cup broke.", ("ann",))
        assert asked.until - asked.asked_at == 3 * 24 * 3_600_000
        await engine.decide("refund", approved=True, by="ann", comment="fine", values=Amount(amount=12))
        (run,) = engine.runs()
        assert isinstance(run.output, list)
        assert run.output[:4] == [True, "ann", "fine", 12]
        assert engine.index.open_approvals() == []
        assert next(step.output for step in run.steps if isinstance(step.output, dict))["by"] == "ann"


async def test_rejection_has_no_values(engine_of: EngineOf) -> None:
    """A rejection needs no form."""
    async with engine_of(refund_app()) as engine:
        await engine.send(Event("refund.asked"))
        with pytest.raises(InvalidInput, match="a rejection has no values"):
            await engine.decide("refund", approved=False, values={"amount": 1})
        await engine.decide("refund", approved=False, by="bob")
        (run,) = engine.runs()
        assert isinstance(run.output, list)
        assert run.output[:4] == [False, "bob", "", 0]


async def test_timeout_is_none(engine_of: EngineOf) -> None:
    """After the timeout the code gets None, and nothing waits any longer."""
    async with engine_of(refund_app()) as engine:
        await engine.send(Event("refund.asked"))
        await engine.advance("3d")
        (run,) = engine.runs()
        assert run.output == "no decision"
        with pytest.raises(LookupError, match="0 approvals wait"):
            await engine.decide("refund", approved=True)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (None, "asks for the values of its form"),
        ({}, "values.amount: a value is required"),
        ({"amount": 0}, "values.amount"),
        ({"amount": "12"}, "values.amount"),
    ],
)
async def test_values_must_fit_the_form(engine_of: EngineOf, values: object, reason: str) -> None:
    """Values that do not fit are refused, and the step still waits."""
    async with engine_of(refund_app()) as engine:
        await engine.send(Event("refund.asked"))
        with pytest.raises(InvalidInput, match=reason):
            await engine.decide("refund", approved=True, values=values)
        assert len(engine.index.open_approvals()) == 1


async def test_other_signal_is_no_decision(engine_of: EngineOf) -> None:
    """A client that sends the signal itself must send a decision; anything else fails the step."""
    app = App("refunds")

    @app.function(on("go"))
    async def ask(ctx: Context) -> str:
        try:
            await ctx.step.wait_for_approval("ok", title="ok?", timeout="1h")
        except StepError as error:
            return error.code
        return "decided"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        (asked,) = engine.index.open_approvals()
        assert await engine.signal(approval_signal(asked.run_id, asked.step), "yes")
        assert engine.runs()[0].output == "invalid-approval"


async def test_plain_functions_and_dataclasses(engine_of: EngineOf) -> None:
    """A plain function waits for decisions too, and a form may be a dataclass."""
    app = App("paint")

    @app.function(on("go"))
    def ask(ctx: ThreadedContext) -> str:
        decision = ctx.step.wait_for_approval("color", title="Which color?", form=Choice, timeout="1h")
        assert isinstance(decision, Approval)
        assert decision.values is not None
        return decision.values.color

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.decide("color", approved=True, values=Choice("red"))
        assert engine.runs()[0].output == "red"


async def test_requests_are_checked_in_the_code(engine_of: EngineOf) -> None:
    """A title that is empty or too long, recipients in one string and a form that is not a model are refused."""
    app = App("wrong")
    found: list[str] = []

    @app.function(on("go"))
    async def ask(ctx: Context) -> None:
        for wrong in ({"title": " "}, {"title": "x" * 201}, {"to": "ann"}, {"description": 1}):
            with pytest.raises(InvalidInput) as caught:
                ctx.step.wait_for_approval("ok", timeout="1h", **{"title": "ok?", **wrong})  # type: ignore[call-overload]
            found.append(caught.value.field)
        for form in (int, object):
            with pytest.raises(StepUsageError, match="form"):
                ctx.step.wait_for_approval("ok", title="ok?", form=form, timeout="1h")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.runs()[0].status == "completed", engine.runs()[0].error
        assert found == [f"step 'ok': {field}" for field in ("title", "title", "to", "description")]
