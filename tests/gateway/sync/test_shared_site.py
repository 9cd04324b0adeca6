"""Which form an answer has where our own API and the protocol of SDKs have the same path."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from stepstream.gateway.sync.shared_site import shared_site

OURS, SDK = {"user-agent": "stepstream/0.1.0"}, {"x-inngest-sdk": "js:v4"}


def answering(api: FastAPI | APIRouter, name: str, *paths: str) -> Any:
    """Add routes that answer a name."""
    for path in paths:
        api.add_api_route(path, lambda: name, methods=["GET"])
    return api


@pytest.mark.parametrize(
    ("path", "headers", "has_sdk_apps", "name"),
    [
        ("/v1/runs/1", {}, False, "own"),
        ("/v1/runs/1", SDK, False, "sdk"),
        ("/v1/runs/1", {}, True, "sdk"),
        ("/v1/runs/1", OURS, True, "own"),
        ("/e/key", {}, True, "sdk"),
        ("/e/key", {}, False, "own"),
        ("/v1/limits", {}, True, "own"),
        ("/v0/gql", {}, False, "sdk"),
        ("/api/v1/runs/1", SDK, True, "own"),
    ],
)
async def test_form_of_an_answer(path: str, headers: dict[str, str], has_sdk_apps: bool, name: str) -> None:
    """SDKs get theirs, our commands get ours, and other clients that of the apps which the process has."""
    own = answering(FastAPI(), "own", "/v1/runs/1", "/e/key", "/v1/limits")
    router = answering(APIRouter(), "sdk", "/v1/runs/1", "/e/key", "/v0/gql")
    site = shared_site(own, [router], lambda: has_sdk_apps)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://localhost") as client:
        assert (await client.get(path, headers=headers)).json() == name
