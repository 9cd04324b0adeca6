"""Language models and agents as durable steps, for the packages of the extra `stepstream[ai]`."""

from importlib.util import find_spec

if find_spec("pydantic_ai") is None:
    raise ModuleNotFoundError("stepstream.ai needs Pydantic AI: pip install 'stepstream[ai]'", name="pydantic_ai")
