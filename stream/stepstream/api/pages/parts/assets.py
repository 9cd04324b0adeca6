"""The static files of the page; their URLs contain a digest of all of them, so that browsers may keep them forever."""

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.responses import Response

from stepstream.api.page_options import ROOT

_DIGEST_CHARACTERS = 16
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_KEPT = "public, max-age=31536000, immutable"


@functools.cache
def _files() -> Mapping[str, bytes]:
    """Return the content of each file by its path below the folder of static files."""
    folder = resources.files("stepstream.api.pages") / "static"
    names = [each.name for each in folder.iterdir() if each.is_file()]
    vendored = [f"vendor/{each.name}" for each in (folder / "vendor").iterdir()]
    return {name: (folder / name).read_bytes() for name in sorted((*names, *vendored))}


@functools.cache
def _digest() -> str:
    """Return one digest of all files: a module that imports another one by a relative URL gets the same release."""
    found = hashlib.sha256()
    for name, content in _files().items():
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:_DIGEST_CHARACTERS]


def asset_url(name: str) -> str:
    """Return the URL of a static file."""
    return f"{ROOT}/static/{_digest()}/{name}"


def asset(digest: str, name: str) -> Response:
    """Return a static file; 404 for an unknown one, and for the files of another release."""
    content = _files().get(name)
    kind = _TYPES.get(name[name.rfind(".") :])
    if content is None or kind is None or digest != _digest():
        return Response("no such file", 404, media_type="text/plain")
    return Response(content, media_type=kind, headers={"Cache-Control": _KEPT})
