"""What the pages share: serving, errors and outcomes as JSON."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dig_env import RewardConfig, Score
from dig_env.scenes import Pair, RenderError
from dig_env.scenes.extras import extra

with extra("play"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import BaseRoute, Mount
    from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


class Conflict(ValueError):
    """The page speaks of a pair that is no longer open."""


def web_app(routes: Sequence[BaseRoute]) -> Starlette:
    """An application of these routes and the static files, which returns errors as JSON."""
    errors = (ValueError, TypeError, LookupError, RenderError, OSError)
    return Starlette(
        routes=[*routes, Mount("/static", StaticFiles(directory=STATIC))],
        exception_handlers=dict.fromkeys(errors, _error_response),
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the port is taken, or the host is none of this machine's; says what to do.
    """
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            reason = f"port {port} is in use, perhaps by another dig-env: give another --port"
        else:
            reason = f"cannot listen on --host {host} --port {port} ({error}): give others"
        raise OSError(f"{reason}, or --port 0 for any that is free") from error


def serve(app: Starlette, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Args:
        app: what to serve.
        listener: from ``bind``.
        on_ready: called with the address.
    """
    host, port = listener.getsockname()[:2]
    on_ready(f"http://{host}:{port}/")
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # or a client could give itself any address, and so escape its limits
        server_header=False,
        timeout_keep_alive=75,  # longer than clients do: one that finds it closed gets no answer
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run(sockets=[listener])


def outcome(pair: Pair, score: Score, config: RewardConfig) -> dict[str, Any]:
    """An answered pair for the page, truth included; boxes are xyxy in the unit frame.

    Returns:
        "truth": see ``truth_of``, "boxes": those of the answer, "matches": [{"answer", "truth",
        "iou", "found"}] with indices into them, and "weights" of the parts in the reward.
    """
    return {
        "truth": truth_of(pair),
        "boxes": score.answer.boxes.tolist(),
        "matches": [
            {"answer": answer, "truth": true, "iou": iou, "found": iou >= config.iou_threshold}
            for answer, true, iou in score.matches
        ],
        "weights": config.weights,
    }


def truth_of(pair: Pair) -> list[dict[str, Any]]:
    """The "change" of each difference, and "shown": its box in image A and that in image B, xyxy in
    the unit frame; None in the image that a moved camera left without the object."""
    shown_a, shown_b = (iter(boxes.tolist()) for boxes in pair.boxes_shown)
    everywhere = not pair.camera_moved
    return [
        {
            "change": difference.change,
            "shown": [
                next(shown_a) if everywhere or difference.box_a else None,
                next(shown_b) if everywhere or difference.box_b else None,
            ],
        }
        for difference in pair.differences
    ]


async def _error_response(request: Request, error: Exception) -> Response:
    status = (
        409
        if isinstance(error, Conflict)
        else 400
        if isinstance(error, (ValueError, TypeError))
        else 500
    )
    return JSONResponse({"error": str(error)}, status)
