"""What tokens cost, by the public prices of providers."""

from stepstream.ai.extras import require

require("genai_prices", "The list of prices", "ai")

from genai_prices import Usage, calc_price

from stepstream.contract.model_usage import NANO_PER_USD


def cost_nano_usd(model: str, read: int, written: int, cache_read: int = 0, cache_written: int = 0) -> int:
    """Return what a request cost in billionths of a US dollar, 0 if the price of the model is unknown.

    `read` are all tokens of the input, of which `cache_read` and `cache_written` have prices of their own.
    """
    if not model:
        return 0
    usage = Usage(
        input_tokens=read, output_tokens=written, cache_read_tokens=cache_read, cache_write_tokens=cache_written
    )
    try:
        return round(calc_price(usage, model_ref=model).total_price * NANO_PER_USD)
    except (LookupError, ValueError):
        return 0
