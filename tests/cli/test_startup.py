"""What a process imports before it does anything: the modules are counted, since seconds depend on the machine."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import stepstream
from stepstream.cli.main import load_command
from stepstream.cli.registry import COMMANDS

# Each of these takes longer to import than all of the SDK.
HEAVY = {
    "agents",
    "aiokafka",
    "celpy",
    "fastapi",
    "faust",
    "genai_prices",
    "langchain",
    "langchain_core",
    "langgraph",
    "lark",
    "openai",
    "prometheus_client",
    "pydantic",
    "pydantic_ai",
    "rocksdict",
    "uvicorn",
}


def modules_after(code: str) -> set[str]:
    """Return the names of the modules that a new interpreter has imported after running `code`."""
    listing = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(listing.stdout.split())


def test_importing_the_package_imports_nothing_else() -> None:
    """Commands of the shell import the package first, even when they need none of it."""
    assert {name for name in modules_after("import stepstream") if "stepstream" in name} == {"stepstream"}


def test_the_pytest_plugin_imports_nothing_else() -> None:
    """Every start of pytest loads the plugin, in each project of the environment; the fixture loads the engine."""
    found = modules_after("import stepstream.pytest_plugin")
    assert {name for name in found if "stepstream" in name} == {"stepstream", "stepstream.pytest_plugin"}


def test_the_public_api_imports_neither_grammar_nor_pydantic() -> None:
    """A program that defines functions pays for the SDK; what compiles expressions and converts models comes later."""
    # Only programs that call an engine pay for the HTTP client.
    clients = {"Client", "KafkaClient", "RunHandle", "StreamClient", "SyncClient", "SyncRunHandle"}
    names = ", ".join(name for name in stepstream.__all__ if name not in clients)
    found = modules_after(f"from stepstream import {names}\n@App('shop').function(on('order'))\nasync def f(ctx): ...")
    assert not (HEAVY | {"aiohttp"}) & found
    assert len(found) < 340


def test_graphql_is_loaded_by_the_first_query() -> None:
    """A gateway for SDKs that no test suite asks does not load the library."""
    assert not {"ariadne", "graphql"} & modules_after("import stepstream.gateway.rest.routes")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["send", "--help"], ["runs", "--help"]], ids=" ".join)
def test_commands_import_what_they_use(arguments: list[str]) -> None:
    """The commands that talk to an engine over HTTP load neither the SDK nor a runtime; --version loads no parser."""
    run = f"sys.argv[1:] = {arguments}\nfrom stepstream.cli.registry import main\ntry: main()\nexcept SystemExit: pass"
    found = modules_after(run)
    assert not {
        name for name in found if name.startswith(("stepstream.sdk", "stepstream.engine", "stepstream.runtime.kafka"))
    }
    # typer converts options by pydantic.
    assert not (HEAVY - {"pydantic"} | {"asyncio", "httpx", "uvloop"}) & found
    assert not {"typer", "rich"} & found or arguments != ["--version"]


def test_each_command_names_its_module_and_help() -> None:
    """`stepstream --help` shows the first sentence of each command without loading its module."""
    for name, command in COMMANDS.items():
        first, _, _ = str(load_command(name).help).partition("\n\n")
        assert command.help == " ".join(first.split()), name


def test_each_public_name_is_the_one_that_type_checkers_see() -> None:
    """The stub imports the same names from the same modules."""
    package = Path(stepstream.__file__)
    stub = ast.parse(package.with_suffix(".pyi").read_text("utf-8"))
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    imported = {alias.name: statement.module for statement in imports for alias in statement.names}
    assert sorted(imported) == sorted(stepstream.__all__)
    for name, module in imported.items():
        assert getattr(stepstream, name) is getattr(importlib.import_module(str(module)), name)
        assert name in dir(stepstream)
