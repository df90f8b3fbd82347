"""``dig-env serve``: DiG over HTTP, for trainers that want the environment elsewhere.

    POST   /sessions            options of gym.make   {"session", "width", "height"}
    POST   /sessions/ID/reset   {"seed", "options"}   {"observation", "info"}
    POST   /sessions/ID/step    {"action"}            {"reward", "terminated", "truncated", "info",
                                                       "boxes_drawn"}, see DiGEnv.boxes_drawn
    DELETE /sessions/ID

A session is one ``DiG-v0`` environment. All of them share the Blender workers and the datasets.
Images are PNG in base64. Every request carries ``Authorization: Bearer TOKEN``. An error is
{"error": its type, "message": what to do}. ``dig_env.envs.remote`` is the client.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import gymnasium as gym

from dig_env.drawing import png
from dig_env.scenes import RenderError
from dig_env.scenes.extras import extra
from dig_env.serve.sessions import Limits, Rates, Refusal, Sessions

with extra("serve"):
    import anyio.to_thread
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response
    from starlette.routing import Route

log = logging.getLogger("dig_env.serve.server")

StatusAndBody = tuple[int, dict[str, Any] | None]
"""A status of HTTP, and what is sent as JSON."""


def server_app(sessions: Sessions, token: str) -> Starlette:
    """The server's application, for any ASGI server.

    Args:
        sessions: the environments and the limits; the caller's to close.
        token: what every request must carry.
    """
    limits = sessions.limits
    rates, unauthenticated = Rates(limits.requests_per_s), Rates(limits.requests_per_s)

    async def answer(request: Request, work: Callable[[dict[str, Any]], StatusAndBody]) -> Response:
        """What ``work`` makes of the request's JSON object; it runs in a thread."""
        try:
            try:
                _check_token(request, token)
            except Refusal:  # many clients may have one address, and one of them the wrong token
                unauthenticated.count(_client(request))
                raise
            rates.count(_client(request))
            body = await _body(request, limits)
            status, reply = await run_in_threadpool(work, body)
            return Response(status_code=status) if reply is None else _json(reply, status)
        except Exception as error:
            return _refused(error, sessions)

    async def open_session(request: Request) -> Response:
        return await answer(request, partial(_open, sessions, _client(request)))

    def in_session(
        work: Callable[[Sessions, str, dict[str, Any]], StatusAndBody],
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await answer(request, partial(work, sessions, request.path_params["session"]))

        return endpoint

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # A reset holds its thread while its pair is rendered; others must not wait for one.
        anyio.to_thread.current_default_thread_limiter().total_tokens = 2 * limits.sessions
        yield

    routes = [
        Route("/sessions", open_session, methods=["POST"]),
        Route("/sessions/{session}/reset", in_session(_reset), methods=["POST"]),
        Route("/sessions/{session}/step", in_session(_step), methods=["POST"]),
        Route("/sessions/{session}", in_session(_close), methods=["DELETE"]),
    ]
    return Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_such_page}
    )


def _open(sessions: Sessions, client: str, options: dict[str, Any]) -> StatusAndBody:
    name, (width, height) = sessions.open(client, options)
    return 201, {"session": name, "width": width, "height": height}


def _reset(sessions: Sessions, name: str, body: dict[str, Any]) -> StatusAndBody:
    _check_fields(body, {"seed", "options"})
    with sessions.using(name) as env:
        seen, info = env.reset(
            seed=body.get("seed"), options=sessions.checked_options(body.get("options"))
        )
    images = {
        image: base64.b64encode(png(seen[image], compress_level=1)).decode()
        for image in ("image_a", "image_b")
    }
    return 200, {"observation": images | {"prompt": seen["prompt"]}, "info": info}


def _step(sessions: Sessions, name: str, body: dict[str, Any]) -> StatusAndBody:
    _check_fields(body, {"action"})
    with sessions.using(name) as env:
        action: Any = body.get("action")  # step refuses what is no text
        _, reward, terminated, truncated, info = env.step(action)
        drawn = [boxes.tolist() for boxes in env.boxes_drawn]
    reply = {"reward": reward, "terminated": terminated, "truncated": truncated, "info": info}
    return 200, reply | {"boxes_drawn": drawn}


def _close(sessions: Sessions, name: str, body: dict[str, Any]) -> StatusAndBody:
    sessions.close_one(name)
    return 204, None


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _check_fields(body: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(body.keys() - known)
    if unknown:
        raise Refusal(
            400,
            f"unknown field {', '.join(map(repr, unknown))}: give {', '.join(sorted(known))}",
            "ValueError",
        )


def _check_token(request: Request, token: str) -> None:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        raise Refusal(
            401,
            f"{'this' if given else 'no'} token is not the server's: send 'Authorization: Bearer "
            "TOKEN' with the token that 'dig-env serve' printed or was given",
        )


async def _body(request: Request, limits: Limits) -> dict[str, Any]:
    """The request's JSON object; {} where there is none."""
    content = b""
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                content += part
                if len(content) > limits.body_bytes:
                    raise Refusal(
                        413,
                        f"a request has at most {limits.body_bytes} bytes: send less, or start the "
                        "server with more --body-bytes",
                    )
    except ClientDisconnect:
        raise Refusal(400, "the request was cut off: send it again") from None
    except TimeoutError:
        raise Refusal(
            408, f"the request did not arrive within {limits.body_s:g} s: send it again"
        ) from None
    try:
        body = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"the request is no JSON ({error}): send one JSON object") from error
    if not isinstance(body, dict):
        raise Refusal(400, f"the request is a JSON {type(body).__name__}: send a JSON object")
    return body


def _refused(error: Exception, sessions: Sessions) -> Response:
    """The reply to a request that failed."""
    headers = {}
    if isinstance(error, Refusal):
        status, name = error.status, error.name
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, gym.error.ResetNeeded):
        status, name = 409, "ResetNeeded"
    elif isinstance(error, RenderError):
        status, name = 500, "RenderError"
        log.error("a pair could not be rendered: %s", error)
    elif isinstance(error, (ValueError, TypeError)) or type(error) is gym.error.Error:
        status, name = 400, type(error).__name__
    else:
        log.error("a request failed", exc_info=error)
        reply = "the server failed on this request: its log says why"
        return _json({"error": "InternalError", "message": reply}, 500)
    message = sessions.without_paths(str(error))
    return _json({"error": name, "message": message}, status, headers)


async def _no_such_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = (
        f"{request.method} {request.url.path} is nothing here: there are POST /sessions, POST "
        "/sessions/ID/reset, POST /sessions/ID/step and DELETE /sessions/ID"
    )
    return _json({"error": "NotFound", "message": message}, error.status_code)


def _json(reply: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    # Not Starlette's JSONResponse, which fails on a half of a surrogate pair that an answer held.
    return Response(json.dumps(reply), status, headers, media_type="application/json")
