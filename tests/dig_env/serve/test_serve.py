"""``dig-env serve`` and DiG-Remote-v0: the environment itself, on the other side of a wire."""

import copy
import dataclasses
import multiprocessing
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from answers_corpus import answers_about
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.utils.env_match import check_environments_match
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from serving import serving
from starlette.applications import Starlette
from starlette.testclient import TestClient

import dig_env
from dig_env.envs.pairs import FreshPairs, PairCache, SharedPairs, StoredPairs
from dig_env.envs.remote import RemoteError
from dig_env.scenes import STAGES, RenderSettings, render_dataset
from dig_env.serve.server import server_app
from dig_env.serve.sessions import Limits, Sessions

TINY = {"width": 64, "height": 48, "quality": "draft"}
TOKEN = "a token of the tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ANSWER = "[[0, 0, 999, 999]]"


@pytest.fixture(scope="module")
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


def remote(url, **options):
    return gym.make("DiG-Remote-v0", url=url, **options)


def play(env, answers, **first):
    """Everything that an environment hands out in an episode of each answer."""
    handed = []
    for index, answer in enumerate(answers):
        handed.append(env.reset(**(first if index == 0 else {})))
        handed += [env.render(), env.step(answer), env.render()]
    env.close()
    return handed


# The environment's own behaviour


@pytest.mark.parametrize(("coordinates", "camera_shift"), [("norm1000", 0.0), ("pixel", 0.3)])
def test_fresh_pairs_are_those_of_the_local_environment_to_the_byte(
    url, renderer, coordinates, camera_shift
):
    stage = {"differences": (2, 3), "changes": ["color", "delete"], "camera_shift": camera_shift}
    options = {"stage": stage, "coordinates": coordinates} | TINY
    options |= {"reward": {"format_weight": 0.3}, "render_mode": "rgb_array"}
    answers = [ANSWER, "[[0, 0, 30, 40]]"]
    source = FreshPairs(RenderSettings(**TINY, device="cpu"), "test", renderer)
    expected = play(gym.make("DiG-v0", dataset=source, **options), answers, seed=4)
    found = play(remote(url, split="test", **options), answers, seed=4)
    assert data_equivalence(found, expected, exact=True)


def test_every_kind_of_answer_earns_what_it_earns_locally(url, folder):
    options = {"stage": "mixed", "reward": "strict", "render_mode": "rgb_array"}
    local = gym.make("DiG-v0", dataset=folder, **options)
    local.reset(seed=3)
    answers = answers_about(local.unwrapped.pair.boxes_unit, np.random.default_rng(0))
    long = "<think>" + "é".join(map(str, range(100_000))) + "</think>" + answers["right"]
    answers = [*answers.values(), long, "half a pair: \ud800", "\0", ""]
    found = play(remote(url, dataset="pairs", **options), answers, seed=3)
    assert data_equivalence(found, play(local, answers, seed=3), exact=True)


@pytest.mark.parametrize("render_mode", [None, "rgb_array", "human"])
def test_gymnasiums_checks(url, folder, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = remote(url, dataset="pairs", render_mode=render_mode, disable_env_checker=True)
        check_env(env.unwrapped, skip_render_check=True)
        local = gym.make("DiG-v0", dataset=folder, render_mode=render_mode)
        assert env.observation_space == local.observation_space
        assert env.action_space == local.action_space
        check_environments_match(env, local, num_steps=5, seed=2)
    copies = copy.deepcopy(env)
    env.close()
    env.close()
    copies.reset(seed=0)  # its session is its own
    copies.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_vector_of_them_follows_a_curriculum(url, folder, mode):
    handed = []
    for env_id, options in (
        ("DiG-Remote-v0", {"url": url, "dataset": "pairs", "vectorization_mode": mode}),
        ("DiG-v0", {"dataset": folder, "vectorization_mode": "sync"}),
    ):
        curriculum = dig_env.RandomCurriculum(("single", "mixed"), seed=4)
        vector = dig_env.VectorCurriculumWrapper(gym.make_vec(env_id, 2, **options), curriculum)
        handed.append([vector.reset(seed=0), *(vector.step((ANSWER, "[]")) for _ in range(3))])
        vector.close()
    assert data_equivalence(*handed, exact=False)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_vector_of_them_refuses_what_is_not_an_answer_for_each(url, mode):
    vector = gym.make_vec("DiG-Remote-v0", 2, vectorization_mode=mode, url=url, dataset="pairs")
    vector.reset(seed=0)
    for actions, error, message in (
        (ANSWER, TypeError, "are one str: give a list of 2 texts"),
        ([ANSWER] * 3, ValueError, "3 answers for 2 environments"),
        ([ANSWER, 7], TypeError, "answer 1 is a int, no text"),
    ):
        with pytest.raises(error, match=message):
            vector.step(actions)
    assert vector.step([ANSWER] * 2)[2].all()
    vector.close()


def test_a_reward_is_spelled_as_it_is_locally(url, folder):
    fields = dataclasses.asdict(dig_env.REWARDS["paper"])
    local = gym.make("DiG-v0", dataset=folder, reward="paper")
    spellings = ["paper", fields, MappingProxyType(fields), dig_env.REWARDS["paper"]]
    served = [remote(url, dataset="pairs", reward=reward) for reward in spellings]
    earned = []
    for env in (local, *served):
        env.reset(seed=0)
        earned.append(env.step("[[0, 0, 500, 1000], [0, 0, 1000, 1000]]")[1])
        env.close()
    assert len(set(earned)) == 1 and earned[0] > 0.1


def test_nothing_before_the_answer_tells_the_truth(sessions):
    client = TestClient(server_app(sessions, TOKEN), headers=BEARER)
    opened = client.post("/sessions", json={"dataset": "pairs"}).json()
    assert opened.keys() == {"session", "width", "height"}
    told = client.post(f"/sessions/{opened['session']}/reset", json={"seed": 1}).json()
    assert told.keys() == {"observation", "info"}
    assert told["observation"].keys() == {"image_a", "image_b", "prompt"}
    assert told["info"].keys() == {"pair_seed", "stage"}


@pytest.mark.parametrize(
    "options",
    [
        {"stage": "triple"},
        {"stage": {"differences": [9, 9]}},
        {"width": 8},
        {"quality": "ultra"},
        {"coordinates": "percent"},
        {"split": "dev"},
        {"reward": {"weight": 2}},
        {"reward": "best"},
    ],
)
def test_bad_arguments_are_refused_as_they_are_locally(url, options):
    with pytest.raises(ValueError) as local:
        gym.make("DiG-v0", **options)
    with pytest.raises(type(local.value), match=f"^{re.escape(str(local.value))}$"):
        remote(url, **options)


def test_bad_calls_are_refused_as_they_are_locally(url, folder):
    made = remote(url, dataset="pairs"), gym.make("DiG-v0", dataset=folder)
    calls = [
        lambda env: env.unwrapped.step("[]"),
        lambda env: env.reset(seed=-1),
        lambda env: env.reset(options={"stages": "dual"}),
        lambda env: env.reset(options={"stage": "duel"}),
        lambda env: env.reset(options={"pair_seed": -1}),
        lambda env: env.unwrapped.step("[]"),  # a failed reset leaves no pair
        lambda env: env.reset(seed=0) and env.step(3),
        lambda env: env.step("[]") and env.step("[]"),
    ]
    for call in calls:
        told = []
        for env in made:
            with pytest.raises(Exception) as refused:
                call(env)
            told.append((refused.type, str(refused.value).replace(str(folder), "pairs")))
        assert told[0] == told[1]
    for env in made:
        env.close()


# What goes wrong on the way


def test_a_session_that_is_gone_and_a_server_that_is_gone_are_told_apart(folder, clock):
    sessions = Sessions(datasets={"pairs": folder}, limits=Limits(idle_s=60))
    with serving(server_app(sessions, TOKEN)) as address:
        env = remote(address, dataset="pairs")
        env.reset(seed=0)
        clock[0] += 61
        with pytest.raises(RemoteError, match=r"idle for more than 60 s.*make a new env"):
            env.step(ANSWER)
    with pytest.raises(RemoteError, match=r"gave no answer.*'dig-env serve' runs there"):
        env.reset(seed=0)
    env.close()
    with pytest.raises(RemoteError, match="gave no answer"):
        remote(address)


def test_an_address_where_something_else_answers_is_named():
    told = pytest.raises(RemoteError, match="404 and not as 'dig-env serve' does")
    with serving(Starlette()) as address, told:
        remote(address)


def test_a_client_that_is_too_fast_is_told_when_to_come_again_and_does(folder, clock, monkeypatch):
    limits = Limits(requests_per_s=4)
    sessions = Sessions(datasets={"pairs": folder}, limits=limits)
    client = TestClient(server_app(sessions, TOKEN), headers=BEARER)
    replies = [client.delete("/sessions/none") for _ in range(6)]
    assert [reply.status_code for reply in replies] == [404] * 4 + [429] * 2
    assert int(replies[-1].headers["Retry-After"]) >= 1
    waits = []

    def wait(seconds):
        waits.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("dig_env.envs.remote.sleep", wait)
    with serving(server_app(sessions, TOKEN)) as address:
        env = remote(address, dataset="pairs", render_mode="rgb_array")
        assert len(play(env, ["[]"] * 3)) == 12
    assert waits == [1.0], "of eight requests, four at once, and four a second later"


def test_wrong_tokens_do_not_count_against_the_clients_behind_the_same_address(sessions):
    sessions = Sessions(datasets={}, limits=Limits(requests_per_s=4))
    app = server_app(sessions, TOKEN)
    wrong = TestClient(app, headers={"Authorization": "Bearer wrong"})
    replies = [wrong.delete("/sessions/none").status_code for _ in range(10)]
    assert set(replies) == {401, 429} and replies[:4] == [401] * 4
    right = TestClient(app, headers=BEARER)
    assert [right.delete("/sessions/none").status_code for _ in range(4)] == [404] * 4


# What a server does not do


@pytest.fixture(scope="module")
def client(sessions):
    with TestClient(server_app(sessions, TOKEN), headers=BEARER) as client:
        yield client


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
