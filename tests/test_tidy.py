"""The house rules as tests: applied to the tree, and each proven on snippets that break it."""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from tests import tidy_language
from tests.tidy_language import names_of_tests_are_short, words_are_plain
from tests.tidy_rules import (
    PRODUCT,
    ROOT,
    Finding,
    Findings,
    Rule,
    Source,
    classes_are_named_for_what_they_are,
    constructors_take_options,
    data_is_not_run,
    errors_are_not_swallowed,
    files_are_short,
    find_crowded_dependencies,
    find_dead_modules,
    find_namesakes,
    find_undocumented,
    functions_are_short,
    imports_by_name_are_few,
    imports_stand_at_the_top,
    modules_say_what_they_are_for,
    no_sleep_in_tests,
    no_test_module_is_imported,
    nothing_is_left_for_later,
    output_is_escaped,
    read_sources,
    time_and_chance_come_in_records,
    types_are_imported_for_real,
)

PURE = tuple(PRODUCT + folder for folder in ("contract/", "engine/", "expressions/"))
# Each rule and the prefixes of the paths to which it applies; only those in ANY_TEXT apply to more than Python.
RULES: Mapping[Rule, tuple[str, ...]] = {
    files_are_short: ("",),
    functions_are_short: ("",),
    constructors_take_options: (PRODUCT,),
    modules_say_what_they_are_for: ("",),
    imports_stand_at_the_top: ("",),
    imports_by_name_are_few: (PRODUCT,),
    output_is_escaped: (PRODUCT,),
    types_are_imported_for_real: ("",),
    data_is_not_run: ("",),
    errors_are_not_swallowed: ("",),
    no_sleep_in_tests: ("tests/",),
    no_test_module_is_imported: ("",),
    classes_are_named_for_what_they_are: ("",),
    time_and_chance_come_in_records: PURE,
    nothing_is_left_for_later: ("",),
    **tidy_language.RULES,
}
ANY_TEXT = {nothing_is_left_for_later, words_are_plain}

# A rule, a snippet, and the lines on which the rule must find something: none for a near miss.
SNIPPETS: Sequence[tuple[Rule, str, list[int]]] = (
    (files_are_short, "a = 1\n" * 401, [401]),
    (files_are_short, "a = 1\n" * 400, []),
    (functions_are_short, "def f():\n" + "    a = 1\n" * 50, [1]),
    (functions_are_short, "async def f():\n" + "    a = 1\n" * 49, []),
    (constructors_take_options, "class A:\n    def __init__(self, a, b, c, d, e, *, f, g):\n        pass\n", [2]),
    (constructors_take_options, "class A:\n    def __init__(self, a, b, c, d, e, *f, g=1):\n        pass\n", []),
    (modules_say_what_they_are_for, "import re\n", [1]),
    (modules_say_what_they_are_for, '"""Without a full stop"""\n', [1]),
    (modules_say_what_they_are_for, '"""One. Two."""\n', [1]),
    (modules_say_what_they_are_for, '"""One sentence.\n\nAnd more. Much more.\n"""\n', []),
    (imports_stand_at_the_top, "def f():\n    if f:\n        import re\n", [3]),
    (imports_stand_at_the_top, "if True:\n    import re\n", []),
    (imports_by_name_are_few, "import importlib\nimportlib.import_module('re')\nimportlib.reload(re)\n", [2]),
    (output_is_escaped, "import sys\nfrom typer import echo\necho('a')\nsys.stdout.flush()\nprint(1)\n", [3, 5]),
    (output_is_escaped, "import logging\nclass Lines(logging.Formatter):\n    pass\n", [2]),
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
    (no_test_module_is_imported, "from tests.engine.test_laws import Tables\nimport tests.test_docs\n", [1, 2]),
    (no_test_module_is_imported, "from tests.engine.laws import tests_of\nfrom tests.testing import a\n", []),
    (classes_are_named_for_what_they_are, "class RunManager:\n    pass\nclass StepUtils:\n    pass\n", [1, 3]),
    (classes_are_named_for_what_they_are, "class Database:\n    pass\nclass BaseModel:\n    pass\n", []),
    (time_and_chance_come_in_records, "import time\nfrom random import random\nfrom datetime import time\n", [1, 2]),
    (time_and_chance_come_in_records, "import datetime as d\nd.datetime.now()\nd.date.today\n", [2, 3]),
    (time_and_chance_come_in_records, "from datetime import datetime\nrow.now()\ndatetime(1, 1, 1)\n", []),
    (nothing_is_left_for_later, "a = 1\nb = 2  # XX" + "X\n", [2]),
    (nothing_is_left_for_later, "Todos and a fixme_flag\n", []),
    # The words are split here, so that the rule does not find them in this file.
    (words_are_plain, "a = 1\n# made an" + "ew\nb = is_to" + "ld(a)\n", [2, 3]),
    (words_are_plain, "# It is dea" + "lt\n# with later.\nclass RunTa" + "lly:\n    pass\n", [1, 3]),
    (words_are_plain, "stop()\nback = give\nDEAD_LETTERS = ['lower-case letters']\n", []),
    (names_of_tests_are_short, f"def test_{'a' * 66}(): ...\ndef test_{'b' * 65}(): ...\n", [1]),
    (names_of_tests_are_short, f"async def test_{'a' * 66}(): ...\ndef {'b' * 99}(): ...\n", [1]),
)


def read_modules(*beginnings: str) -> list[Source]:
    """Return the Python files whose paths have one of these prefixes; there must be some."""
    found = [source for source in read_sources() if source.path.startswith(beginnings) and source.path.endswith(".py")]
    assert found, f"no Python file has a prefix of {beginnings}: the rule would check nothing"
    return found


def report(rule: Callable[..., Findings], findings: Sequence[Finding]) -> str:
    """Return the rule and the places that break it, one per line."""
    return "\n".join([f"{len(findings)} x {rule.__doc__}", *map(str, findings)])


def test_sources_are_found() -> None:
    """The rules are applied to the real tree: files of every kind are found."""
    paths = {source.path for source in read_sources()}
    assert {"Makefile", "pyproject.toml", ".ci/run", "tests/test_tidy.py", "examples/demo.py"} <= paths
    assert f"{PRODUCT}__init__.py" in paths
    assert len(read_modules(PRODUCT)) >= 50


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_obey(rule: Rule) -> None:
    """Every file obeys each rule; the rule's docstring states it."""
    sources = read_sources() if rule in ANY_TEXT else read_modules(*RULES[rule])
    findings = [finding for source in sources for finding in rule(source)]
    assert not findings, report(rule, findings)


@pytest.mark.parametrize(("rule", "text", "lines"), SNIPPETS, ids=lambda value: getattr(value, "__name__", ""))
def test_rule_finds(rule: Rule, text: str, lines: list[int]) -> None:
    """Each rule finds the bad lines of a snippet and no others."""
    assert sorted(finding.line for finding in rule(Source("snippet.py", text))) == lines


def test_every_rule_is_proven() -> None:
    """Each rule has a snippet that breaks it."""
    assert {rule for rule, _, lines in SNIPPETS if lines} == set(RULES)


@pytest.mark.parametrize("entry", tidy_language.vocabulary()["banned"], ids=lambda entry: entry["words"])
def test_banned_word_is_found(entry: Mapping[str, str]) -> None:
    """Each banned word is found in the example beside it, in capitals too, and not in the near miss."""
    pattern = tidy_language.compile_words(entry["words"])
    assert pattern.search(tidy_language.plain(entry["found"]))
    assert pattern.search(tidy_language.plain(entry["found"].upper()))
    assert not list(tidy_language.find_banned(entry.get("fine", "")))


@pytest.mark.parametrize("entry", tidy_language.vocabulary()["allowed"], ids=lambda entry: entry["words"])
def test_allowed_word_passes(entry: Mapping[str, str]) -> None:
    """Each allowance lets its example pass, which would be found without it."""
    assert not list(tidy_language.find_banned(entry["fine"]))
    banned = tidy_language.compile_words(*(each["words"] for each in tidy_language.vocabulary()["banned"]))
    assert banned.search(tidy_language.plain(entry["fine"]))


@pytest.mark.parametrize(
    "rule", [find_crowded_dependencies, find_dead_modules, find_namesakes], ids=lambda rule: rule.__name__
)
def test_product_obeys(rule: Callable[[Sequence[Source]], Findings]) -> None:
    """The modules of the product together obey each rule; the rule's docstring states it."""
    findings = list(rule(read_modules(PRODUCT)))
    assert not findings, report(rule, findings)


def test_crowded_dependency_is_found() -> None:
    """A dependency that two modules import is found in both; one with its own package only outside of it."""
    texts = {
        "api/a": "import fastapi",
        "host/b": "import fastapi\nimport uvicorn",
        "host/c": "from uvicorn.protocols import http",
    }
    sources = [Source(f"{PRODUCT}{path}.py", text) for path, text in texts.items()]
    assert [(finding.path[len(PRODUCT) :], finding.line) for finding in find_crowded_dependencies(sources)] == [
        ("host/b.py", 1),
        ("host/b.py", 2),
        ("host/c.py", 1),
    ]


def test_dead_module_is_found() -> None:
    """A module that only itself imports is found; entry points, empty packages and imported modules are not."""
    texts = {
        "__main__": "from stepstream.host import a",
        "host/__init__": "'Empty.'",
        "host/a": "",
        "host/b": "import stepstream.host.b",
    }
    sources = [Source(f"{PRODUCT}{path}.py", text) for path, text in texts.items()]
    assert [finding.path for finding in find_dead_modules(sources)] == [f"{PRODUCT}host/b.py"]


def test_namesake_is_found() -> None:
    """Two modules of one name are found in one layer, and not in two; a module may be named like its package."""
    paths = ("runtime/kafka/settings", "runtime/worker/settings", "runtime/worker/worker", "runtime/worker/__init__")
    sources = [Source(f"{PRODUCT}{path}.py", "") for path in (*paths, "host/settings", "testing/__init__", "__init__")]
    assert [finding.path for finding in find_namesakes(sources)] == [f"{PRODUCT}runtime/worker/settings.py"]


def test_public_names_are_documented() -> None:
    """Each public class and function of the package has its own docstring."""
    # Imported here and not above, so that the other rules still run if the package cannot be imported.
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


def test_every_scenario_is_in_the_table_of_rules() -> None:
    """tests/scenarios/README.md names each scenario file and no other."""
    folder = ROOT / "tests/scenarios"
    named = set(re.findall(r"test_\w+\.py", (folder / "README.md").read_text("utf-8")))
    assert named == {path.name for path in folder.rglob("test_*.py")}
