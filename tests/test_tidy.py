"""The house rules as tests: each rule finds what breaks it, and is fed bad snippets to prove that it does."""

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("stream", "tests", "examples", "benchmarks", "docs", "topics", "deploy", ".ci")
SUFFIXES = {".css", ".html", ".js", ".md", ".py", ".sh", ".toml", ".yaml", ".yml"}
NAMES_WITHOUT_SUFFIX = {"Dockerfile", "Makefile", "run"}

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 50

# None: any one module, and no second one. A name: any module of that package.
HOMES: Mapping[str, str | None] = {
    "aiokafka": None,
    "celpy": None,
    "fastapi": "stepstream.api",
    "faust": None,
    "prometheus_client": None,
    "rocksdict": None,
    "sqlite3": None,
    "uvicorn": None,
}

# Modules that something other than an import brings in.
ENTRY_POINTS = {
    "stepstream": "users import it",
    "stepstream.__main__": "python -m stepstream",
    "stepstream.cli": "the command",
    "stepstream.contract.render": "make topics",
    "stepstream.pytest_plugin": "pytest loads it",
    "stepstream.testing": "users import it",
}


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
        """The dotted name under which a file of the product is imported; a package's is that of its folder."""
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
        """What each imported name stands for: `from time import sleep as nap` gives {"nap": "time.sleep"}."""
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
    """A place that breaks a rule, and what to do about it."""

    path: str
    line: int
    remedy: str

    def __str__(self) -> str:
        """Return the form that editors jump to."""
        return f"{self.path}:{self.line}: {self.remedy}"


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
                remedy = f"{node.name} has {lines} lines, {FUNCTION_LINES_MAX} are allowed; name a part of it"
                yield Finding(source.path, node.lineno, remedy)


def modules_say_what_they_are_for(source: Source) -> Findings:
    """The first line of a module is a docstring of one whole sentence."""
    docstring = ast.get_docstring(source.tree)
    first = docstring.splitlines()[0] if docstring else ""
    if not first:
        yield Finding(source.path, 1, "begin with a docstring that says in one sentence what the module is for")
    elif not first.endswith(".") or re.search(r"[.!?]\s+[A-Z]", first):
        yield Finding(source.path, 1, "make the first line of the docstring one sentence that ends with a full stop")


def imports_stand_at_the_top(source: Source) -> Findings:
    """No import is inside a function, where it would hide a knot between modules."""
    for function in ast.walk(source.tree):
        if isinstance(function, FUNCTIONS):
            for node in function.body:
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Import | ast.ImportFrom):
                        remedy = (
                            f"move the import out of {function.name}; if that makes a cycle, cut the modules elsewhere"
                        )
                        yield Finding(source.path, inner.lineno, remedy)


def types_are_imported_for_real(source: Source) -> Findings:
    """There is no TYPE_CHECKING, behind which a cycle of imports would hide."""
    for node in ast.walk(source.tree):
        match node:
            case ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
                yield Finding(
                    source.path, node.lineno, "import it for real; if that makes a cycle, cut the modules elsewhere"
                )


def data_is_not_run(source: Source) -> Findings:
    """Neither eval nor exec nor pickle nor its like: what comes from outside is never run."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and source.dotted(node) in {"eval", "exec", "builtins.eval", "builtins.exec"}:
            yield Finding(source.path, node.lineno, f"do without {node.id}; expressions has an evaluator with bounds")
    for dotted, statement in source.imports:
        if dotted.partition(".")[0] in {"cloudpickle", "dill", "marshal", "pickle", "shelve"}:
            yield Finding(source.path, statement.lineno, "write it as JSON: contract/codec.py has the one codec")


def errors_are_not_swallowed(source: Source) -> Findings:
    """No bare except, and no Exception that is caught and dropped."""
    broad = {"BaseException", "Exception"}
    for node in ast.walk(source.tree):
        match node:
            case ast.ExceptHandler(None):
                yield Finding(source.path, node.lineno, "name the errors that are meant")
            case ast.ExceptHandler(ast.expr() as kind, _, body):
                kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
                if broad & {source.dotted(each) for each in kinds} and all(map(_does_nothing, body)):
                    yield Finding(
                        source.path, node.lineno, "name the errors that are meant, or do something about them"
                    )
            case ast.Call(function, arguments) if source.dotted(function) == "contextlib.suppress":
                if broad & {source.dotted(each) for each in arguments}:
                    yield Finding(source.path, node.lineno, "name the errors that may be dropped")


def _does_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Continue() | ast.Expr(ast.Constant()):
            return True
    return False


def no_sleep_in_tests(source: Source) -> Findings:
    """A test never sleeps for a time: it waits for what it wants to see, or moves a clock."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        match source.dotted(node.func), [*node.args, *(keyword.value for keyword in node.keywords)]:
            case "time.sleep", _:
                yield Finding(source.path, node.lineno, "wait for the event itself, or use a clock that the test moves")
            case "asyncio.sleep", [ast.Constant(int() | float() as seconds), *_] if seconds > 0:
                yield Finding(source.path, node.lineno, "await the event itself, or use a clock that the test moves")


def classes_are_named_for_what_they_are(source: Source) -> Findings:
    """No class is called a Manager, Helper, Util, Base or Impl, which say nothing."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and (found := re.search("(Manager|Helper|Util|Base|Impl)s?$", node.name)):
            remedy = f"name {node.name} for what it is or holds; {found[0]} says nothing"
            yield Finding(source.path, node.lineno, remedy)


def time_and_chance_come_in_records(source: Source) -> Findings:
    """The engine and what is below it read no clock, draw nothing and wait for nothing: all they know is in records."""
    for dotted, statement in source.imports:
        if dotted.partition(".")[0] in {"asyncio", "os", "random", "secrets", "threading", "time", "uuid"}:
            remedy = f"do without {dotted}; time comes in a Tick, identities are derived from the record"
            yield Finding(source.path, statement.lineno, remedy)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(
            r"datetime\.(datetime\.(now|utcnow|today)|date\.today)", source.dotted(node)
        ):
            yield Finding(source.path, node.lineno, "take the time from the record or the Tick")


def nothing_is_left_for_later(source: Source) -> Findings:
    """No file holds a mark for work left undone."""
    for number, line in enumerate(source.text.splitlines(), 1):
        # The brackets keep the pattern from finding itself.
        if found := re.search(r"\b(TOD[O]|FIXM[E]|XX[X])\b", line):
            yield Finding(source.path, number, f"do it now, or open an issue and take {found[0]} away")


def find_crowded_dependencies(sources: Sequence[Source]) -> Findings:
    """Each heavy dependency is imported in one module alone, or in the one package named in HOMES."""
    for dependency, package in HOMES.items():
        users = [
            (source, statement)
            for source in sources
            for dotted, statement in source.imports
            if f"{dotted}.".startswith(f"{dependency}.")
        ]
        modules = sorted({source.module for source, _ in users})
        for source, statement in users:
            if package is None and len(modules) > 1:
                remedy = f"{dependency} is imported by {' and '.join(modules)}; let one of them own it"
                yield Finding(source.path, statement.lineno, remedy)
            elif package is not None and not f"{source.module}.".startswith(f"{package}."):
                yield Finding(source.path, statement.lineno, f"import {dependency} in {package} only")


def find_dead_modules(sources: Sequence[Source]) -> Findings:
    """Each module of the product is imported by another one of it, or is an entry point."""
    for source in sources:
        is_empty_package = source.path.endswith("__init__.py") and len(source.tree.body) < 2
        if source.module in ENTRY_POINTS or is_empty_package:
            continue
        imported = {dotted for other in sources if other is not source for dotted, _ in other.imports}
        if not any(f"{dotted}.".startswith(f"{source.module}.") for dotted in imported):
            yield Finding(source.path, 1, "nothing imports it: wire it, delete it, or add it to ENTRY_POINTS")


def find_undocumented(public: Mapping[str, object]) -> Findings:
    """Each public class and function has a docstring of its own."""
    for name, thing in public.items():
        # A dataclass without a docstring gets its signature for one.
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and (thing.__doc__ or f"{name}(").startswith(
            f"{name}("
        ):
            path = inspect.getsourcefile(thing) or "?"
            yield Finding(path.removeprefix(f"{ROOT}/"), inspect.getsourcelines(thing)[1], f"give {name} a docstring")


PRODUCT = "stream/stepstream/"
PURE = tuple(PRODUCT + folder for folder in ("contract/", "engine/", "expressions/"))
# Each rule and the beginnings of the paths that it holds for; all but the last are for Python alone.
RULES: Mapping[Rule, tuple[str, ...]] = {
    files_are_short: ("",),
    functions_are_short: ("",),
    modules_say_what_they_are_for: ("",),
    imports_stand_at_the_top: ("",),
    types_are_imported_for_real: ("",),
    data_is_not_run: ("",),
    errors_are_not_swallowed: ("",),
    no_sleep_in_tests: ("tests/",),
    classes_are_named_for_what_they_are: ("",),
    time_and_chance_come_in_records: PURE,
    nothing_is_left_for_later: ("",),
}

# A rule, a snippet, and the lines on which the rule must find something: none for a near miss.
SNIPPETS: Sequence[tuple[Rule, str, list[int]]] = (
    (files_are_short, "a = 1\n" * 401, [401]),
    (files_are_short, "a = 1\n" * 400, []),
    (functions_are_short, "def f():\n" + "    a = 1\n" * 50, [1]),
    (functions_are_short, "async def f():\n" + "    a = 1\n" * 49, []),
    (modules_say_what_they_are_for, "import re\n", [1]),
    (modules_say_what_they_are_for, '"""Without a full stop"""\n', [1]),
    (modules_say_what_they_are_for, '"""One. Two."""\n', [1]),
    (modules_say_what_they_are_for, '"""One sentence.\n\nAnd more. Much more.\n"""\n', []),
    (imports_stand_at_the_top, "def f():\n    if f:\n        import re\n", [3]),
    (imports_stand_at_the_top, "if True:\n    import re\n", []),
    (types_are_imported_for_real, "import typing\nif typing.TYPE_CHECKING:\n    import re\n", [2]),
    (types_are_imported_for_real, "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\n", [2]),
    (data_is_not_run, "eval('1')\nf = exec\nmodel.eval()\n", [1, 2]),
    (data_is_not_run, "from pickle import loads\n", [1]),
    (errors_are_not_swallowed, "try:\n    f()\nexcept:\n    raise\n", [3]),
    (errors_are_not_swallowed, "try:\n    f()\nexcept (OSError, Exception):\n    pass\n", [3]),
    (errors_are_not_swallowed, "try:\n    f()\nexcept OSError:\n    pass\nexcept Exception:\n    close()\n", []),
    (errors_are_not_swallowed, "from contextlib import suppress\nwith suppress(Exception):\n    f()\n", [2]),
    (no_sleep_in_tests, "import time as t\nt.sleep(0)\n", [2]),
    (no_sleep_in_tests, "from asyncio import sleep\nsleep(0.1)\nsleep(0)\nsleep(delay=2)\n", [2, 4]),
    (no_sleep_in_tests, "step.sleep('a', 5)\n", []),
    (classes_are_named_for_what_they_are, "class RunManager:\n    pass\nclass StepUtils:\n    pass\n", [1, 3]),
    (classes_are_named_for_what_they_are, "class Database:\n    pass\nclass BaseModel:\n    pass\n", []),
    (time_and_chance_come_in_records, "import time\nfrom random import random\nfrom datetime import time\n", [1, 2]),
    (time_and_chance_come_in_records, "import datetime as d\nd.datetime.now()\nd.date.today\n", [2, 3]),
    (time_and_chance_come_in_records, "from datetime import datetime\nrow.now()\ndatetime(1, 1, 1)\n", []),
    (nothing_is_left_for_later, "a = 1\nb = 2  # XX" + "X\n", [2]),
    (nothing_is_left_for_later, "Todos and a fixme_flag\n", []),
)


@functools.cache
def read_sources() -> tuple[Source, ...]:
    """Return the text files of the repository, without what is generated or made by others."""
    files = [*ROOT.iterdir(), *(path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")))]
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for path in files
        if path.is_file()
        and (path.suffix in SUFFIXES or path.name in NAMES_WITHOUT_SUFFIX)
        and ".min." not in path.name
    )


def read_modules(*beginnings: str) -> list[Source]:
    """Return the Python files whose paths have one of these beginnings; there must be some."""
    found = [source for source in read_sources() if source.path.startswith(beginnings) and source.path.endswith(".py")]
    assert found, f"no Python file begins with {beginnings}: the rule would hold for nothing"
    return found


def report(rule: Callable[..., Findings], findings: Sequence[Finding]) -> str:
    """Return the rule and the places that break it, one a line."""
    return "\n".join([f"{len(findings)} x {rule.__doc__}", *map(str, findings)])


def test_sources_are_found() -> None:
    """The rules are held against the real tree: files that must be there are found, of every kind."""
    paths = {source.path for source in read_sources()}
    assert {"Makefile", "pyproject.toml", ".ci/run", "tests/test_tidy.py", "examples/demo.py"} <= paths
    assert f"{PRODUCT}__init__.py" in paths
    assert len(read_modules(PRODUCT)) >= 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_obey(rule: Rule) -> None:
    """Every file keeps to each rule; the rule's docstring states it."""
    sources = read_sources() if rule is nothing_is_left_for_later else read_modules(*RULES[rule])
    findings = [finding for source in sources for finding in rule(source)]
    assert not findings, report(rule, findings)


@pytest.mark.parametrize(("rule", "text", "lines"), SNIPPETS, ids=lambda value: getattr(value, "__name__", ""))
def test_rule_finds(rule: Rule, text: str, lines: list[int]) -> None:
    """Each rule finds the bad lines of a snippet and no others."""
    assert [finding.line for finding in rule(Source("snippet.py", text))] == lines


def test_every_rule_is_proven() -> None:
    """Each rule has a snippet that breaks it."""
    assert {rule for rule, _, lines in SNIPPETS if lines} == set(RULES)


@pytest.mark.parametrize("rule", [find_crowded_dependencies, find_dead_modules], ids=lambda rule: rule.__name__)
def test_product_obeys(rule: Callable[[Sequence[Source]], Findings]) -> None:
    """The modules of the product, seen together, keep to each rule; the rule's docstring states it."""
    findings = list(rule(read_modules(PRODUCT)))
    assert not findings, report(rule, findings)


def test_crowded_dependency_is_found() -> None:
    """A dependency with two homes is found in both, and one with a package of its own only outside of it."""
    texts = {
        "api/a": "import fastapi",
        "host/b": "import fastapi\nimport faust",
        "host/c": "from faust.web import views",
    }
    sources = [Source(f"{PRODUCT}{path}.py", text) for path, text in texts.items()]
    assert [(finding.path[len(PRODUCT) :], finding.line) for finding in find_crowded_dependencies(sources)] == [
        ("host/b.py", 1),
        ("host/b.py", 2),
        ("host/c.py", 1),
    ]


def test_dead_module_is_found() -> None:
    """A module that only itself imports is found; entry points, empty packages and what others import are not."""
    texts = {
        "cli": "from stepstream.host import a",
        "host/__init__": "'Empty.'",
        "host/a": "",
        "host/b": "import stepstream.host.b",
    }
    sources = [Source(f"{PRODUCT}{path}.py", text) for path, text in texts.items()]
    assert [finding.path for finding in find_dead_modules(sources)] == [f"{PRODUCT}host/b.py"]


def test_public_names_are_documented() -> None:
    """Each public class and function of the package has a docstring of its own."""
    # Imported here and not above, so that the other rules still speak when the package cannot be imported.
    package = importlib.import_module("stepstream")
    public = {name: getattr(package, name) for name in package.__all__}
    assert public
    findings = list(find_undocumented(public))
    assert not findings, report(find_undocumented, findings)


def test_missing_docstring_is_found() -> None:
    """A dataclass and a function without docstrings are found, a documented class and a constant are not."""

    @dataclass
    class Bare:
        a: int

    def bare() -> None: ...

    findings = list(find_undocumented({"Bare": Bare, "bare": bare, "Source": Source, "ROOT": ROOT}))
    assert [finding.remedy for finding in findings] == ["give Bare a docstring", "give bare a docstring"]
