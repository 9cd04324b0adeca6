"""Redirects of apps, which are followed within one host only: another one must not get what is sent to an app."""

from urllib.parse import urljoin, urlsplit

REDIRECTS_MAX = 3


def redirected(url: str, location: str) -> str:
    """Return where a redirect leads; without a query it keeps that of the request, which names the function."""
    target = urlsplit(urljoin(url, location))
    return target._replace(query=target.query or urlsplit(url).query).geturl()


def is_same_host(url: str, other: str) -> bool:
    """Return whether two URLs have one scheme and host: a program at another port of a host is as much trusted."""
    return _host(url) == _host(other)


def _host(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname
