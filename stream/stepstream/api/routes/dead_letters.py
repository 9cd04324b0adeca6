"""The routes of dead letters: the latest ones, one with its content, and redriving it."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.params import Depends

from stepstream.api.facade import DeadLetters, DeadLetterView, EngineFacade


def text_or_base64(raw: bytes | None) -> str | dict[str, str] | None:
    """Return bytes as text, or in base64 if they are not UTF-8."""
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _as_json(view: DeadLetterView) -> dict[str, Any]:
    headers = [[name, text_or_base64(value)] for name, value in view.headers]
    content = {"key": text_or_base64(view.key), "value": text_or_base64(view.value), "headers": headers}
    return {**dataclasses.asdict(view), **content}


def _log_of(engine: EngineFacade) -> DeadLetters:
    if engine.dead_letters is None:
        raise HTTPException(404, "this process reads no dead letters")
    return engine.dead_letters


def add_dead_letters(
    api: FastAPI, engine: EngineFacade, guarded: Sequence[Depends], actor: Callable[[Request], str]
) -> None:
    """Add the routes."""

    @api.get("/v1/dead-letters", dependencies=guarded, summary="List the latest dead letters, the newest first")
    async def list_dead_letters(limit: int = Query(50, ge=1, le=200)) -> dict[str, Any]:
        found = [_as_json(view) for view in await _log_of(engine).latest(limit)]
        for each in found:
            for name in ("key", "value", "headers"):
                del each[name]
        return {"dead_letters": found}

    @api.get("/v1/dead-letters/{place}", dependencies=guarded, summary="Show one of the latest dead letters")
    async def show_dead_letter(place: str) -> dict[str, Any]:
        view = await _log_of(engine).show(place)
        if view is None:
            raise HTTPException(404, f"dead letter {place!r} is not among the latest")
        return _as_json(view)

    @api.post(
        "/v1/dead-letters/{place}/redrive", dependencies=guarded, summary="Send the record of a dead letter again"
    )
    async def redrive_dead_letter(place: str, request: Request) -> dict[str, bool]:
        await _log_of(engine).redrive(place, actor(request))
        return {"redriven": True}
