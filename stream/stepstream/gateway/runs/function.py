"""A function that an official SDK serves over HTTP."""

from dataclasses import dataclass

from stepstream.contract.functions import FunctionRegistered
from stepstream.sdk.function import RetryPolicy


@dataclass(frozen=True, slots=True)
class RemoteFunction:
    """A function of an app, as it is registered: with the URL of its calls, and its SDK.

    With `checkpoints` the app may report steps while a call is open. A report that arrives at another gateway is passed
    on by `gateway_url`, the signed URL of the gateway that makes the call. With `inputs` the app may fetch what does
    not fit into a call. `server_kind` is what calls say of the gateway: `dev` or `cloud`.
    """

    registered: FunctionRegistered
    checkpoints: bool = False
    server_kind: str = "dev"
    inputs: bool = False
    gateway_url: str = ""

    @property
    def id(self) -> str:
        """Its composite id."""
        return self.registered.id

    @property
    def endpoint(self) -> str:
        """The URL of its calls."""
        return self.registered.endpoint

    @property
    def sdk(self) -> str:
        """The language and the version of its SDK, such as `py:v0.5.19`."""
        return self.registered.sdk

    @property
    def policy(self) -> RetryPolicy:
        """The retries of its steps and of the code between them."""
        return RetryPolicy(self.registered.retries)

    @property
    def is_limited(self) -> bool:
        """Whether limits delay its steps."""
        return any(rule.steps for rule in self.registered.gates)

    def registration(self) -> FunctionRegistered:
        """Return the record that registers the function with the engine."""
        return self.registered
