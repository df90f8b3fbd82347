"""An endpoint that speaks the protocol of chat completions, and answers as a test says."""

import base64
import contextlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


def completion(content, finish_reason="stop", usage=(900, 20), **message):
    """The body of a chat completion."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "looker",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, **message},
                "finish_reason": finish_reason,
            }
        ],
    }
    if usage is not None:
        prompt, answer = usage
        body["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "total_tokens": prompt + answer,
        }
    return body


class Server(ThreadingHTTPServer):
    """Answers as the test says: ``answer(request body) -> (status, headers, body)``."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.lock = threading.Lock()
        self.requests = []
        self.now = self.most = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        status, headers, answer = self.server.answer(body)
        with self.server.lock:
            self.server.now -= 1
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        # A client that no longer waits has closed the line.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(answer):
    server = Server(answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def images_of(body):
    """The pictures that a request carries, decoded."""
    parts = body["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    files = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
    return [np.array(Image.open(io.BytesIO(file))) for file in files]
