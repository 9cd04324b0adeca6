"""The house rules: each is a function that yields the places that break it."""

import ast
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.tidy_imports import ENTRY_POINTS, HOMES

ROOT = Path(__file__).parents[1]
PRODUCT = "stream/stepstream/"
FOLDERS = ("stream", "tests", "examples", "benchmarks", "docs", "topics", "deploy", ".ci")
SUFFIXES = {".css", ".go", ".html", ".js", ".md", ".mjs", ".py", ".sh", ".toml", ".tpl", ".ts", ".yaml", ".yml"}
# What package managers and compilers write beside an example.
BUILT = {"dist", "node_modules"}
NAMES_WITHOUT_SUFFIX = {"Dockerfile", "Makefile", "NOTES.txt", "run"}

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50
PARAMETERS_MAX = 6
# They are public: their options are keywords, which most uses do not need.
MANY_PARAMETERS = {"Durable", "VirtualEngine"}


@dataclass(frozen=True)
class Source:
    """A text file of the repository; its path is relative to the root, with slashes."""

    path: str
    text: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text, self.path)

    @property
    def module(self) -> str:
        """The dotted name by which a file of the product is imported; that of a package is its folder."""
        return self.path.removeprefix("stream/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @functools.cached_property
    def imports(self) -> list[tuple[str, ast.Import | ast.ImportFrom]]:
        """Everything that is imported, as (dotted name, statement); `from a import b` is a.b."""
        found: list[tuple[str, ast.Import | ast.ImportFrom]] = []
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names):
                    found += ((alias.name, node) for alias in names)
                case ast.ImportFrom(module, names):
                    found += ((f"{module}.{alias.name}", node) for alias in names)
        return found

    @functools.cached_property
    def bound(self) -> dict[str, str]:
        """The full name behind each imported name: `from time import sleep as nap` gives {"nap": "time.sleep"}."""
        names: dict[str, str] = {}
        for dotted, node in self.imports:
            for alias in node.names:
                if isinstance(node, ast.ImportFrom):
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                elif alias.asname or "." not in dotted:
                    names[alias.asname or alias.name] = alias.name
        return names

    def dotted(self, node: ast.AST) -> str:
        """Return the dotted name that an expression spells, imported names in full; "" for any other expression."""
        match node:
            case ast.Name(id):
                return self.bound.get(id, id)
            case ast.Attribute(value, attr):
                owner = self.dotted(value)
                return f"{owner}.{attr}" if owner else ""
        return ""


class Finding(NamedTuple):
    """A place that breaks a rule, and the remedy."""

    path: str
    line: int
    remedy: str

    def __str__(self) -> str:
        """Return the form that editors jump to."""
        return f"{self.path}:{self.line}: {self.remedy}"


@functools.cache
def read_sources() -> tuple[Source, ...]:
    """Return the text files of the repository, without generated and vendored ones."""
    files = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))]
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in files
        if path.is_file()
        and (path.suffix in SUFFIXES or path.name in NAMES_WITHOUT_SUFFIX)
        and ".min." not in path.name
        and BUILT.isdisjoint(path.relative_to(ROOT).parts)
    )


Findings = Iterator[Finding]
Rule = Callable[[Source], Findings]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def files_are_short(source: Source) -> Findings:
    """No file is longer than 400 lines."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        remedy = f"{lines} lines, {FILE_LINES_MAX} are allowed; split it where its subject changes"
        yield Finding(source.path, FILE_LINES_MAX + 1, remedy)


def functions_are_short(source: Source) -> Findings:
    """No function is longer than 50 lines, its docstring included."""
    for node in ast.walk(source.tree):
        if isinstance(node, FUNCTIONS):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                remedy = f"{node.name} has {lines} lines, {FUNCTION_LINES_MAX} are allowed; extract a part of it"
                yield Finding(source.path, node.lineno, remedy)


def constructors_take_options(source: Source) -> Findings:
    """No constructor has more than six parameters: more of them are one frozen options object."""
    for owner in ast.walk(source.tree):
        if not isinstance(owner, ast.ClassDef) or owner.name in MANY_PARAMETERS:
            continue
        for node in owner.body:
            if isinstance(node, FUNCTIONS) and node.name == "__init__":
                count = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]) - 1
                if count > PARAMETERS_MAX:
                    yield Finding(
                        source.path, node.lineno, f"{owner.name} takes {count} parameters; pass one options object"
                    )


def modules_say_what_they_are_for(source: Source) -> Findings:
    """The first line of a module is a docstring of one whole sentence."""
    docstring = ast.get_docstring(source.tree)
    first = docstring.splitlines()[0] if docstring else ""
    if not first:
        yield Finding(source.path, 1, "start with a docstring that states in one sentence what the module is for")
    elif not first.endswith(".") or re.search(r"[.!?]\s+[A-Z]", first):
        yield Finding(source.path, 1, "make the first line of the docstring one sentence that ends with a full stop")


def imports_stand_at_the_top(source: Source) -> Findings:
    """No import is inside a function, where it would hide a cycle between modules."""
    for function in ast.walk(source.tree):
        if isinstance(function, FUNCTIONS):
            for node in function.body:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Import | ast.ImportFrom):
                        remedy = f"move the import out of {function.name}; if that creates a cycle, split the modules"
                        yield Finding(source.path, inner.lineno, remedy)


# The modules that import others by name, and only to start faster: at the first use of what they import.
DEFERRED_IMPORTS = {
    "stream/stepstream/__init__.py",
    "stream/stepstream/cli/mcp_command.py",
    "stream/stepstream/cli/registry.py",
    "stream/stepstream/gateway/rest/graphql_routes.py",
    "stream/stepstream/host/agents.py",
    "stream/stepstream/host/read_models.py",
    "stream/stepstream/pytest_plugin.py",
    "stream/stepstream/sdk/deferred.py",
}


def imports_by_name_are_few(source: Source) -> Findings:
    """Only the modules of DEFERRED_IMPORTS import other modules of the product by name."""
    if source.path in DEFERRED_IMPORTS:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.dotted(node.func) in {"importlib.import_module", "__import__"}:
            yield Finding(source.path, node.lineno, "import it at the top of the file, where tools can see it")


# The modules that write to a terminal or a log; they escape what they are given by contract/text/printable.py.
OUTPUT = {f"{PRODUCT}{path}" for path in ("cli/terminal/console.py", "cli/registry.py", "host/monitoring/logs.py")}


def output_is_escaped(source: Source) -> Findings:
    """Only the modules of OUTPUT print, build styled text or format lines of the log: they escape what events bring."""
    if source.path in OUTPUT:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.dotted(node.func) in {
            "print",
            "rich.print",
            "rich.text.Text",
            "typer.echo",
            "sys.stdout.write",
            "sys.stderr.write",
            "logging.StreamHandler",
        }:
            yield Finding(
                source.path, node.lineno, "print by cli/terminal/console.py, or log: both escape control characters"
            )
        if isinstance(node, ast.ClassDef) and "logging.Formatter" in map(source.dotted, node.bases):
            yield Finding(source.path, node.lineno, "format lines of the log in host/monitoring/logs.py, which escapes")


def types_are_imported_for_real(source: Source) -> Findings:
    """There is no TYPE_CHECKING block, which would hide an import cycle."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                yield Finding(
                    source.path,
                    node.lineno,
                    "import it unconditionally; if that creates a cycle, split the modules differently",
                )


def data_is_not_run(source: Source) -> Findings:
    """No eval, exec, pickle or similar: input from outside is never executed."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and source.dotted(node) in {"eval", "exec", "builtins.eval", "builtins.exec"}:
            yield Finding(source.path, node.lineno, f"remove {node.id}; expressions/ has a bounded evaluator")
    for dotted, statement in source.imports:
        if dotted.partition(".")[0] in {"cloudpickle", "dill", "marshal", "pickle", "shelve"}:
            yield Finding(source.path, statement.lineno, "write JSON instead: contract/codec.py has the codec")


def errors_are_not_swallowed(source: Source) -> Findings:
    """No bare except, and no Exception that is caught and ignored."""
    broad = {"BaseException", "Exception"}
    for node in ast.walk(source.tree):
        match node:
            case ast.ExceptHandler(None):
                yield Finding(source.path, node.lineno, "name the expected errors")
            case ast.ExceptHandler(ast.expr() as kind, _, body):
                kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
                if broad & {source.dotted(each) for each in kinds} and all(map(_does_nothing, body)):
                    yield Finding(source.path, node.lineno, "name the expected errors, or handle them")
            case ast.Call(function, arguments) if source.dotted(function) == "contextlib.suppress":
                if broad & {source.dotted(each) for each in arguments}:
                    yield Finding(source.path, node.lineno, "name the errors that may be ignored")


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Expr(ast.Constant()):
            return True
    return False


def no_sleep_in_tests(source: Source) -> Findings:
    """A test never sleeps: it waits for the event that it expects, or moves a clock."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        match source.dotted(node.func), [*node.args, *(keyword.value for keyword in node.keywords)]:
            case "time.sleep", _:
                yield Finding(source.path, node.lineno, "wait for the event itself, or use a clock that the test moves")
            case "asyncio.sleep", [ast.Constant(int() | float() as seconds), *_] if seconds > 0:
                yield Finding(source.path, node.lineno, "await the event itself, or use a clock that the test moves")


def no_test_module_is_imported(source: Source) -> Findings:
    """No module imports a module of tests: what several tests share is in tests/fakes or in a module without tests."""
    for dotted, statement in source.imports:
        if found := re.match(r"tests\.(?:\w+\.)*?test_\w+", dotted):
            yield Finding(source.path, statement.lineno, f"move what {found[0]} shares to a module without tests")


def classes_are_named_for_what_they_are(source: Source) -> Findings:
    """No class is named Manager, Helper, Util, Base or Impl: these words carry no meaning."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and (found := re.search("(Manager|Helper|Util|Base|Impl)s?$", node.name)):
            remedy = f"name {node.name} after what it is or holds; {found[0]} carries no meaning"
            yield Finding(source.path, node.lineno, remedy)


def time_and_chance_come_in_records(source: Source) -> Findings:
    """The engine and the layers below it read no clock, use no randomness and never wait: all input is in records."""
    for dotted, statement in source.imports:
        if dotted.partition(".")[0] in {"asyncio", "os", "random", "secrets", "threading", "time", "uuid"}:
            remedy = f"remove {dotted}; time arrives in a Tick, ids are derived from the record"
            yield Finding(source.path, statement.lineno, remedy)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"datetime\.(datetime\.(now|utcnow|today)|date\.today)", source.dotted(node)
        ):
            yield Finding(source.path, node.lineno, "take the time from the record or the Tick")


def nothing_is_left_for_later(source: Source) -> Findings:
    """No file contains a mark for unfinished work."""
    for number, line in enumerate(source.text.splitlines(), 1):
        # The brackets keep the pattern from finding itself.
        if found := re.search(r"\b(TOD[O]|FIXM[E]|XX[X])\b", line):
            yield Finding(source.path, number, f"do it now, or open an issue and remove {found[0]}")


def find_crowded_dependencies(sources: Sequence[Source]) -> Findings:
    """Each heavy dependency is imported in a single module, or only in the package that HOMES names."""
    for dependency, home in HOMES.items():
        packages = (home,) if isinstance(home, str) else home
        users = [
            (source, statement)
            for source in sources
            for dotted, statement in source.imports
            if f"{dotted}.".startswith(f"{dependency}.")
        ]
        modules = sorted({source.module for source, _ in users})
        for source, statement in users:
            if packages is None and len(modules) > 1:
                remedy = f"{dependency} is imported by {' and '.join(modules)}; import it in one of them only"
                yield Finding(source.path, statement.lineno, remedy)
            elif packages is not None and not any(f"{source.module}.".startswith(f"{each}.") for each in packages):
                yield Finding(source.path, statement.lineno, f"import {dependency} in {' or '.join(packages)} only")


def find_dead_modules(sources: Sequence[Source]) -> Findings:
    """Each module of the product is imported by another one, or is an entry point."""
    for source in sources:
        is_empty_package = source.path.endswith("__init__.py") and len(source.tree.body) < 2
        if source.module in ENTRY_POINTS or is_empty_package:
            continue
        imported = {dotted for other in sources if other is not source for dotted, _ in other.imports}
        if not any(f"{dotted}.".startswith(f"{source.module}.") for dotted in imported):
            yield Finding(source.path, 1, "nothing imports it: use it, delete it, or add it to ENTRY_POINTS")


def find_namesakes(sources: Sequence[Source]) -> Findings:
    """No two modules of one layer, such as runtime or engine, have the same name; a package may have it too."""
    first: dict[tuple[str, str], Source] = {}
    for source in sources:
        layer, *inner = source.path.removeprefix(PRODUCT).removesuffix(".py").split("/")
        if not inner or (name := inner[-1]) == "__init__":
            continue
        other = first.setdefault((layer, name), source)
        if other is not source:
            yield Finding(source.path, 1, f"{other.path} has this name in the same layer; rename one for what it has")


def find_undocumented(public: Mapping[str, object]) -> Findings:
    """Each public class and function has its own docstring."""
    for name, thing in public.items():
        # A dataclass without a docstring gets its signature for one.
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and (thing.__doc__ or f"{name}(").startswith(
            f"{name}("
        ):
            path = inspect.getsourcefile(thing) or "?"
            yield Finding(path.removeprefix(f"{ROOT}/"), inspect.getsourcelines(thing)[1], f"give {name} a docstring")
