"""Which packages import a dependency, and which modules are used without an import."""

from collections.abc import Mapping

from stepstream.cli.registry import COMMANDS

# The one package, or the packages, that may import a dependency; None: any single module may.
HOMES: Mapping[str, str | tuple[str, ...] | None] = {
    "agents": "stepstream.ai",
    "aiokafka": "stepstream.runtime.kafka",
    "ariadne": None,
    "fastapi": (
        "stepstream.api",
        "stepstream.gateway.connect",
        "stepstream.gateway.rest",
        "stepstream.gateway.sync",
        "stepstream.mcp",
    ),
    "faust": "stepstream.host.sources",
    "genai_prices": "stepstream.ai",
    "google.protobuf": "stepstream.gateway.connect",
    "langchain": "stepstream.ai",
    "langchain_core": "stepstream.ai",
    "langgraph": "stepstream.ai",
    "lark": "stepstream.expressions",
    "mcp": "stepstream.mcp",
    "mcp_types": "stepstream.mcp",
    "openai": "stepstream.ai",
    "prometheus_client": None,
    "psycopg": None,
    "pydantic_ai": "stepstream.ai",
    # The parameters of tools have descriptions.
    "pydantic": ("stepstream.mcp", "stepstream.sdk.models"),
    "rocksdict": None,
    "sqlite3": "stepstream.runtime.readmodel",
    "uvicorn": None,
}

# Modules that something other than an import uses.
ENTRY_POINTS = {
    "stepstream": "users import it",
    "stepstream.__main__": "python -m stepstream",
    "stepstream.ai.frontends": "users import it",
    "stepstream.ai.langchain": "users import it",
    "stepstream.ai.openai_agents": "users import it",
    "stepstream.ai.prices": "sdk/deferred.py loads it by name",
    "stepstream.ai.pydantic_ai": "users import it",
    "stepstream.ai.requests": "sdk/deferred.py loads it by name",
    "stepstream.cli.main": "the command",
    "stepstream.client.sync_client": "users import it",
    "stepstream.client.stream_client": "users import it",
    "stepstream.contract.publishing.render": "make topics",
    "stepstream.pytest_plugin": "pytest loads it",
    "stepstream.runtime.kafka.kafka_client": "users import it",
    "stepstream.sdk.models": "sdk/deferred.py loads it by name",
    "stepstream.runtime.readmodel.postgresql_tables": "host/read_models.py loads it by name",
    "stepstream.gateway.rest.graphql_api": "gateway/rest/graphql_routes.py loads it by name",
    "stepstream.mcp.endpoint": "host/agents.py loads it by name",
    "stepstream.mcp.mcp_server": "cli/mcp_command.py loads it by name",
    "stepstream.cli.stored_runs": "cli/control/runs.py loads it by name",
    **{f"stepstream.cli.{each.module}": "cli/registry.py loads it by name" for each in COMMANDS.values()},
    "stepstream.testing": "users import it",
}
