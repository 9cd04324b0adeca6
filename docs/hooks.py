"""What `make docs` adds to the pages: files of the repository that they link to, and Mermaid from a package."""

import ast
import posixpath
import re
from importlib import resources
from pathlib import Path
from typing import Any

import mermaidx
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Documents outside of docs/ that are pages of the site: path in the repository to path in the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deploy-files.md",
    "topics/README.md": "wire-contract.md",
}
# Everything else that a page links to is shown or copied below this folder.
SOURCE = "source"
LINK = re.compile(r"(?P<before>\]\()(?P<target>(?!https?:|mailto:|#)[^)#\s]+)(?P<place>#[^)\s]*)?(?P<after>\))")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the documents outside of docs/, the files that pages link to, and Mermaid."""
    for repository_path, site_path in PAGES.items():
        text = (ROOT / repository_path).read_text("utf-8")
        files.append(File.generated(config, site_path, content=_rewritten(text, repository_path, site_path)))
    linked: set[str] = set()
    for path in [*PAGES, *(page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md")))]:
        linked |= _linked_files((ROOT / path).read_text("utf-8"), path)
    for path in sorted(linked):
        if path.endswith(".py"):
            files.append(File.generated(config, f"{SOURCE}/{path}.md", content=_python_page(path)))
        else:
            files.append(File.generated(config, f"{SOURCE}/{path}", abs_src_path=str(ROOT / path)))
    mermaid = resources.files("mermaidx") / "assets" / "mermaid.js"
    files.append(File.generated(config, "assets/mermaid.js", content=mermaid.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Check the diagrams of a page, and point its links to files outside of docs/ at their copies in the site."""
    _check_diagrams(markdown, page.file.src_uri)
    if page.file.generated_by:
        return markdown
    return _rewritten(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def _check_diagrams(markdown: str, site_path: str) -> None:
    """Draw each diagram of a page: one that Mermaid cannot parse fails the build, and not the reader's browser."""
    for diagram in DIAGRAM.findall(markdown):
        try:
            mermaidx.render(diagram).svg()
        except RuntimeError as error:
            raise PluginError(f"{site_path}: {error}") from error


def _resolved(target: str, repository_path: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(repository_path), target))


def _linked_files(text: str, repository_path: str) -> set[str]:
    """Return the files of the repository, neither pages nor folders, to which a document links."""
    found = {_resolved(each["target"], repository_path) for each in LINK.finditer(FENCE.sub("", text))}
    return {path for path in found if not _page_of(path) and (ROOT / path).is_file()}


def _page_of(path: str) -> str | None:
    """Return the page of the site for a path of the repository, if it has one."""
    if (ROOT / path).is_dir():
        path = f"{path}/README.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path)


def _rewritten(text: str, repository_path: str, site_path: str) -> str:
    def rewrite(found: re.Match[str]) -> str:
        path = _resolved(found["target"], repository_path)
        place = found["place"] or ""
        target = _page_of(path)
        if target is None:
            if not (ROOT / path).exists():
                return found[0]
            target = f"{SOURCE}/{path}.md" if path.endswith(".py") else f"{SOURCE}/{path}"
            # A link that is named after a test leads to it.
            name = re.search(r"\[`?(test_\w+)`?$", text[: found.start()].rpartition("\n")[2])
            place = f"#{name[1]}" if name and path.endswith(".py") else place
        return (
            f"{found['before']}{posixpath.relpath(target, posixpath.dirname(site_path) or '.')}{place}{found['after']}"
        )

    parts, at = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(rewrite, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, LINK.sub(rewrite, text[at:])])


def _python_page(path: str) -> str:
    """Return a Python file as a page with a heading for each test, so that links reach it."""
    text = (ROOT / path).read_text("utf-8")
    lines = text.splitlines()
    parts, at = [f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n"], 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            start = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
            parts.append(_block(lines[at:start]))
            parts.append(f"## {node.name} {{ #{node.name} }}\n\n{_block(lines[start : node.end_lineno])}")
            at = node.end_lineno or start
    return "\n".join([*parts, _block(lines[at:])])


def _block(lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return f"~~~~python\n{text}\n~~~~\n" if text.strip() else ""
