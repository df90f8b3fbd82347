"""A web application that is served while a test runs."""

import contextlib
import threading
import time

import uvicorn


@contextlib.contextmanager
def serving(app):
    """A server on loopback, in this process; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
