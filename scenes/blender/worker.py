"""The render worker: ``python -m scenes.blender.worker`` with a JSON settings argument.

Protocol: the parent writes one JSON request a line to standard input; each reply is one JSON
line on the *original* standard output, followed by the raw bytes that the line announces.
Blender prints on file descriptor 1, so that is closed off before bpy is imported, and replies go
through a private copy. End of input means that the parent is gone or done: exit.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO


def main() -> None:
    """Serve render requests, and leave no file behind."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    settings = json.loads(sys.argv[1])
    scratch = settings.pop("scratch")
    threading.Thread(target=_die_with_parent, args=(os.getppid(), scratch), daemon=True).start()
    try:
        _work(settings, Path(scratch) / "render.exr", replies)
    except BrokenPipeError:
        pass  # the parent was gone when its answer was ready
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _work(settings: dict[str, Any], path: Path, replies: BinaryIO) -> None:
    """Set up Blender and serve requests until standard input ends."""
    try:
        # Imported here: a machine without Blender must get its reply through the protocol.
        from scenes.blender.studio import Studio

        studio = Studio(**settings)
    except Exception as error:
        _reply(replies, {"error": type(error).__name__, "message": str(error)})
        return
    _reply(replies, {"ready": True})
    for line in sys.stdin.buffer:
        _serve(studio, json.loads(line), path, replies)


def _serve(studio: Any, request: dict[str, Any], path: Path, replies: BinaryIO) -> None:
    """Render the request's scenes and send (image, ids) of each, or one error."""
    try:
        studio.set_view(request["camera"], request["lights"])
        arrays = []
        for objects in request["scenes"]:
            studio.set_objects(objects)
            arrays += _render(studio, path)
    except Exception as error:
        _reply(replies, {"error": type(error).__name__, "message": str(error)})
        return
    _reply(replies, {"shapes": [array.shape for array in arrays]}, *arrays)


def _render(studio: Any, path: Path) -> tuple[Any, Any]:
    """(image, ids) of the scene on the stage; OSError where Blender could not write its file."""
    from scenes.blender.film import develop

    # Blender reports a failed write on its console only; without this, the last picture would
    # be read again and pass for the new one.
    path.unlink(missing_ok=True)
    studio.render(path)
    try:
        return develop(path)
    except Exception as error:
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        raise OSError(
            f"Blender's picture could not be written whole to {path.parent}, where "
            f"{free_mb:.0f} MB are free: free some space there"
        ) from error


def _reply(replies: BinaryIO, header: dict[str, Any], *arrays: Any) -> None:
    replies.write(json.dumps(header).encode() + b"\n")
    for array in arrays:
        replies.write(array.tobytes())
    replies.flush()


def _die_with_parent(parent: int, scratch: str) -> None:
    """End this process, and its scratch folder, once its parent is gone.

    End of input says so too, but not while a fork of the parent still holds the pipe open.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
