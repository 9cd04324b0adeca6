"""Reads the page as a browser without scripts does: it follows links and submits forms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
from selectolax.lexbor import LexborHTMLParser, LexborNode

from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from tests.fakes.facades import facade_of

HOST = "http://localhost"


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was read."""

    response: httpx.Response
    tree: LexborHTMLParser

    @property
    def status(self) -> int:
        """The status of the response."""
        return self.response.status_code

    @property
    def path(self) -> str:
        """The path and the query of the page."""
        return self.response.url.raw_path.decode()

    @property
    def text(self) -> str:
        """The text of the main part, with single spaces."""
        return words(self.tree.css_first("main"))

    def all(self, selector: str) -> list[LexborNode]:
        """Return the elements that a selector finds."""
        return self.tree.css(selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of the elements that a selector finds."""
        return [words(node) for node in self.tree.css(selector)]

    def link(self, label: str) -> str:
        """Return where the only link with this text leads."""
        found = [node.attributes["href"] for node in self.tree.css("main a") if words(node) == label]
        assert len(set(found)) == 1, f"links with the text {label!r}: {found}"
        return found[0] or ""


def words(node: LexborNode | None) -> str:
    """Return the text of an element, with single spaces."""
    assert node is not None, "there is no such element"
    return " ".join(node.text(separator=" ").split())


class Browser:
    """A browser without scripts: it keeps cookies, follows redirects and sends forms with their hidden fields.

    It reads the page of an API in this process; without one, that of the process at `host`.
    """

    def __init__(self, api: Any = None, headers: Mapping[str, str] | None = None, host: str = HOST) -> None:
        transport = httpx.ASGITransport(app=api) if api else httpx.AsyncHTTPTransport()
        self.client = httpx.AsyncClient(
            transport=transport, base_url=host, follow_redirects=True, headers=dict(headers or {})
        )
        self.host = host

    async def open(self, path: str) -> Page:
        """Return the page at a path."""
        return self._page(await self.client.get(path))

    async def submit(
        self, page: Page, selector: str, pressed: Mapping[str, str] | None = None, /, **values: str
    ) -> Page:
        """Submit the only form that a selector finds, with values for its fields; return the page that answers.

        `pressed` is the name and the value of a button outside of the form.
        """
        (form,) = page.tree.css(selector)
        fields = {
            str(field.attributes["name"]): field.attributes.get("value")
            or (field.text() if field.tag == "textarea" else "")
            for field in form.css("input[name], textarea[name], button[name]")
        }
        for field in form.css("select[name]"):
            chosen = field.css("option[selected]") or field.css("option")
            fields[str(field.attributes["name"])] = chosen[0].attributes.get("value") or ""
        assert not values.keys() - fields.keys(), f"the form has only {sorted(fields)}"
        target = urljoin(str(page.response.url), form.attributes.get("action") or "")
        sent = {**fields, **values, **(pressed or {})}
        if (form.attributes.get("method") or "get") == "post":
            return self._page(await self.client.post(target, data=sent, headers={"Origin": self.host}))
        return self._page(await self.client.get(target, params=sent))

    async def press(self, page: Page, label: str, **values: str) -> Page:
        """Press the only button with this text that is outside of its form, with values for the fields of the form."""
        (button,) = [node for node in page.all("main button[form]") if words(node) == label]
        pressed = {str(button.attributes["name"]): button.attributes.get("value") or ""}
        return await self.submit(page, f"form#{button.attributes['form']}", pressed, **values)

    @staticmethod
    def _page(response: httpx.Response) -> Page:
        return Page(response, LexborHTMLParser(response.text))


def browser_of(engine: Any, keys: Keys | None = None, **options: Any) -> Browser:
    """Return a browser of the page over a VirtualEngine."""
    api = make_api(
        facade_of(engine.engine), engine.index, lambda: b"", keys=keys, now_ms=lambda: engine.now_ms, **options
    )
    return Browser(api)
