"""The server of this folder's tests."""

import pytest
from served import BEARER, TINY, TOKEN
from serving import serving
from starlette.testclient import TestClient

from dig_env.scenes import RenderSettings, render_dataset
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Sessions


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "pairs"
    tiny = RenderSettings(**TINY, device="cpu")
    render_dataset(path, {"single": 3, "mixed": 5}, "train", tiny, workers=1)
    return path


@pytest.fixture(scope="module")
def sessions(folder):
    sessions = Sessions(workers=1, device="cpu", datasets={"pairs": folder})
    yield sessions
    sessions.close()


@pytest.fixture(scope="module")
def url(sessions):
    with serving(server_app(sessions, TOKEN)) as url:
        yield url


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("DIG_ENV_TOKEN", TOKEN)


@pytest.fixture
def clock(monkeypatch):
    """The server's clock, which stands still but for ``clock[0] += seconds``."""
    now = [1000.0]
    monkeypatch.setattr("dig_env.serve.sessions.monotonic", lambda: now[0])
    return now


@pytest.fixture(scope="module")
def client(sessions):
    with TestClient(server_app(sessions, TOKEN), headers=BEARER) as client:
        yield client
