"""A server does what its clients may ask for, and nothing else."""

import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from served import ANSWER, BEARER, TINY, TOKEN, remote
from starlette.testclient import TestClient

from dig_env.envs.pairs import PairCache, SharedPairs, StoredPairs
from dig_env.envs.remote import RemoteError
from dig_env.scenes import STAGES
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Limits, Sessions


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}"])
@pytest.mark.parametrize("call", ["POST /sessions", "POST /sessions/x/step", "DELETE /sessions/x"])
def test_without_the_token_nothing_is_done(sessions, call, header):
    client = TestClient(server_app(sessions, TOKEN))
    headers = {} if header is None else {"Authorization": header}
    reply = client.request(*call.split(), headers=headers)
    assert reply.status_code == 401 and reply.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer TOKEN" in reply.json()["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 4000}, "4000x240 is more than the 307200 pixels"),
        ({"workers": 8}, "unknown option 'workers': a session takes stage, width"),
        ({"device": "gpu"}, "unknown option 'device'"),
        ({"stage": {"family": "/tmp"}}, "a server gives clevr, tabletop, shelf"),
        ({"dataset": "../pairs"}, "unknown dataset '../pairs': the server offers pairs"),
        ({"dataset": ["pairs"]}, "unhashable"),
        ({"dataset": "pairs", "width": 128}, "the pairs of pairs were rendered with width=64"),
        ({"dataset": "pairs", "split": "dev"}, "train, validation, test"),
        ({"quality": 4}, "quality=4: give one of draft"),
        ({"width": "64"}, "width='64': give a whole number"),
        ({"stage": None}, "stage=None"),
    ],
)
def test_a_session_that_is_not_allowed_is_refused(client, options, message):
    reply = client.post("/sessions", json=options)
    assert reply.status_code == 400
    assert message in reply.json()["message"]


@pytest.mark.parametrize(
    ("call", "body", "status", "message"),
    [
        ("POST /sessions", b"{", 400, "is no JSON"),
        ("POST /sessions", b"[" * 100_000, 400, "is no JSON"),
        ("POST /sessions", b"\xff", 400, "is no JSON"),
        ("POST /sessions", b"[]", 400, "a JSON list: send a JSON object"),
        ("POST /sessions", b" " * (2**20 + 1), 413, "at most 1048576 bytes"),
        ("GET /sessions", b"", 405, "is nothing here: there are POST /sessions"),
        ("POST /", b"", 404, "is nothing here"),
        ("POST /sessions/x/reset", b"{}", 404, "there is no session 'x'"),
        ("POST /sessions/x/step", b'{"answer": ""}', 400, "unknown field 'answer': give action"),
        ("POST /sessions/ID/reset", b'{"seed": 1, "option": {}}', 400, "give options, seed"),
        ("POST /sessions/ID/reset", b'{"options": [1]}', 400, "options=[1]: give an object"),
        ("POST /sessions/ID/reset", b'{"options": {"stage": {"family": "."}}}', 400, "family='.'"),
        ("POST /sessions/ID/reset", b'{"seed": "one"}', 400, "Seed must be a python integer"),
        ("POST /sessions/ID/step", b'{"action": "[]"}', 409, "call reset()"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_with_it(client, call, body, status, message):
    opened = client.post("/sessions", json={"dataset": "pairs"}).json()["session"]
    reply = client.request(*call.replace("ID", opened).split(), content=body)
    assert (reply.status_code, message in reply.json()["message"]) == (status, True), reply.text
    client.delete(f"/sessions/{opened}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["stage", "width", "quality", "reward", "coordinates", "split"]), JSON)
@hypothesis_settings(max_examples=60)
def test_no_option_makes_the_server_fail(sessions, name, value):
    """What is wrong is the caller's fault, whatever it is, and said so."""
    try:
        opened, _ = sessions.open("here", {"dataset": "pairs", name: value})
        sessions.close_one(opened)
    except (ValueError, TypeError) as error:
        assert str(error)


def test_paths_of_the_server_are_not_told(client, folder):
    opened = client.post("/sessions", json={"dataset": "pairs", "stage": "dual"}).json()["session"]
    told = client.post(f"/sessions/{opened}/reset", json={}).json()["message"]
    assert "has no pairs of stage='dual'" in told and str(folder) not in told


def test_sessions_are_limited_in_all_and_for_each_client_and_end_when_idle(folder, clock):
    limits = Limits(sessions=3, sessions_per_client=2, idle_s=60)
    sessions = Sessions(datasets={"pairs": folder}, limits=limits)
    clients = [
        TestClient(server_app(sessions, TOKEN), headers=BEARER, client=(name, 1)) for name in "ab"
    ]
    opened = [clients[0].post("/sessions", json={"dataset": "pairs"}) for _ in range(3)]
    assert [reply.status_code for reply in opened] == [201, 201, 429]
    assert "a has 2 sessions, and 2 are allowed" in opened[2].json()["message"]
    opened = [clients[1].post("/sessions", json={"dataset": "pairs"}) for _ in range(2)]
    assert [reply.status_code for reply in opened] == [201, 503]
    clock[0] += 61
    assert clients[1].post("/sessions", json={"dataset": "pairs"}).status_code == 201


def test_a_session_does_one_thing_at_a_time(sessions, client):
    opened = client.post("/sessions", json={"dataset": "pairs"}).json()["session"]
    with sessions.using(opened):
        reply = client.post(f"/sessions/{opened}/reset", json={})
    assert reply.status_code == 409 and "is at work" in reply.json()["message"]
    assert client.post(f"/sessions/{opened}/reset", json={}).status_code == 200


@pytest.mark.parametrize("field", ["sessions", "idle_s", "pixels", "requests_per_s"])
def test_a_limit_that_allows_nothing_is_refused(field):
    with pytest.raises(ValueError, match=f"{field}=0: give a finite number above 0"):
        Limits(**{field: 0})


def test_a_group_shares_one_pair(folder):
    shared = SharedPairs(StoredPairs(folder, "train"), PairCache(size=2))
    seeds = [shared.pair_seed(number, "mixed") for number in range(3)]
    first, second = (shared.submit(seeds[0], STAGES["mixed"]).result() for _ in range(2))
    assert first is second
    for seed in seeds[1:]:
        shared.submit(seed, STAGES["mixed"])
    assert shared.submit(seeds[0], STAGES["mixed"]).result() is not first, "two pairs are kept"
    for _ in range(2):
        with pytest.raises(ValueError):
            shared.submit(-1, STAGES["mixed"]).result()


def test_a_pair_that_takes_long_to_plan_holds_up_no_other(folder):
    """Nor is it planned once for each that asks for it."""
    planned, may_go_on = [], threading.Event()

    class Slow(StoredPairs):
        def submit(self, pair_seed, difficulty):
            planned.append(pair_seed)
            if pair_seed == slow:
                may_go_on.wait(30)
            return super().submit(pair_seed, difficulty)

    source = Slow(folder, "train")
    slow, quick = (source.pair_seed(number, "mixed") for number in range(2))
    shared = SharedPairs(source, PairCache())
    with ThreadPoolExecutor() as sessions:
        first = sessions.submit(shared.submit, slow, STAGES["mixed"])
        while not planned:
            time.sleep(0.001)
        second = shared.submit(slow, STAGES["mixed"])
        assert shared.submit(quick, STAGES["mixed"]).result().plan.seed == quick
        assert not first.done() and not second.done()
        may_go_on.set()
        assert first.result().result() is second.result()
    assert planned == [slow, quick]


def test_the_command_serves_this_machine_and_ends_when_interrupted(folder, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("from a file\n")
    command = [
        sys.executable,
        "-uc",
        "from dig_env.agents.cli.main import main; main()",
        "serve",
        "--port=0",
    ]
    command += ["--token-file", str(secret), "--dataset", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert server.stdout.readline() == f"token: that of {secret}\n"
        workers = server.stdout.readline()
        assert re.search(r": \d+ draft, \d+ standard, \d+ high\n", workers)
        assert server.stdout.readline() == "datasets: pairs\n"
        env = remote(address, token="from a file", dataset="pairs")
        assert env.reset(seed=0)[1]["stage"] == "single"
        with pytest.raises(RemoteError, match="token is not the server's"):
            remote(address)
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 130


def test_an_environment_has_a_session_of_its_own_in_a_forked_process(url):
    env = gym.make("DiG-Remote-v0", url=url, **TINY)
    expected = env.reset(seed=3)[1]
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def play():
        with pytest.raises(gym.error.ResetNeeded):
            env.step(ANSWER)  # the pair that is open is the parent's
        sender.send((env.reset(seed=3)[1], env.step(ANSWER)[1]))
        env.close()

    process = multiprocessing.get_context("fork").Process(target=play)
    process.start()
    assert receiver.poll(120), "it hangs"
    assert receiver.recv() == (expected, env.step(ANSWER)[1])
    process.join()
    assert process.exitcode == 0
    assert env.reset()[1]["pair_seed"] != expected["pair_seed"]  # the parent's session is open
    env.close()
