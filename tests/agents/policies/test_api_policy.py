"""A policy behind an endpoint, against a server of the test's own that speaks the protocol."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from endpoint import completion, images_of, serving
from paths import ROOT
from small import SMALL

import dig_env.agents.policies.endpoint
from dig_env import observe, parse_boxes
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.episodes import mean_metrics
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.agents.policies.endpoint import ApiError, ApiPolicy, Usage
from dig_env.answers import DIALECTS


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if DIALECTS[name].models])
def test_each_family_is_asked_in_its_own_habit(pairs, dialect):
    """The server answers in the notation that the prompt shows, and what it says is read."""
    habit = {"answers": dialect, "coordinates": DIALECTS[dialect].coordinates or "norm1000"}

    def looks(body):
        assert DIALECTS[dialect].asked in body["messages"][0]["content"][-1]["text"]
        image_a, image_b = images_of(body)
        (text,) = PixelDiffPolicy(**habit).act([{"image_a": image_a, "image_b": image_b}])
        return 200, {}, completion(text)

    with serving(looks) as server:
        (episode,) = play_pairs(ApiPolicy(server.url, "looker"), pairs["single"][:1], **habit)
    assert episode.score.f1 == 1.0


def always(body):
    return lambda _: (200, {}, body)


def in_turn(*answers):
    """Each answer once, the last one for ever; for one request at a time."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def observation(pairs):
    return observe(pairs["single"][0])


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Backoff as it is, but never longer than 50 ms."""
    monkeypatch.setattr(dig_env.agents.policies.endpoint, "MAX_WAIT_S", 0.05)


def ask(observation, body, **settings):
    """The answer to one observation and what it took."""
    with serving(always(body)) as server:
        policy = ApiPolicy(server.url, "looker", **settings)
        (text,) = policy.act([observation])
    return text, policy.usage


# The request


def test_a_request_holds_both_images_to_the_bit_and_the_prompt(observation):
    with serving(always(completion("[[1, 2, 3, 4]]"))) as server:
        answers = ApiPolicy(server.url + "/", "looker", max_tokens=77).act([observation])
    ((path, _, body),) = server.requests
    assert answers == ["[[1, 2, 3, 4]]"] and path == "/v1/chat/completions"
    assert body["model"] == "looker"
    assert body["max_completion_tokens"] == 77 and body["temperature"] == 0
    (message,) = body["messages"]
    assert message["role"] == "user"
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    assert message["content"][2]["text"] == observation["prompt"]
    image_a, image_b = images_of(body)
    assert np.array_equal(image_a, observation["image_a"])
    assert np.array_equal(image_b, observation["image_b"])


def test_further_fields_replace_and_none_leaves_out(observation):
    request = {"max_completion_tokens": None, "max_tokens": 5, "reasoning_effort": "low"}
    with serving(always(completion("[]"))) as server:
        ApiPolicy(server.url, "looker", request=request).act([observation])
    ((_, _, body),) = server.requests
    assert "max_completion_tokens" not in body
    assert (body["max_tokens"], body["temperature"], body["reasoning_effort"]) == (5, 0, "low")


@pytest.mark.parametrize("key", ["sk-secret", None])
def test_the_key_comes_from_the_environment(observation, monkeypatch, key):
    monkeypatch.delenv("LOOKER_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("LOOKER_KEY", key)
    with serving(always(completion("[]"))) as server:
        ApiPolicy(server.url, "looker", api_key_env="LOOKER_KEY").act([observation])
    ((_, headers, _),) = server.requests
    assert headers.get("Authorization") == (key and f"Bearer {key}")


# Many at once


def test_a_model_that_subtracts_pixels_earns_what_it_earns_without_a_server(pairs):
    """The whole way: rendered pairs, data URLs, a server that looks at them, answers in order."""

    def subtract(body):
        image_a, image_b = images_of(body)
        # The later a request comes, the sooner it is answered: order must not depend on it.
        time.sleep(0.05 * (len(server.requests) % 3 == 1))
        (text,) = PixelDiffPolicy().act([{"image_a": image_a, "image_b": image_b}])
        return 200, {}, completion(text)

    chosen = pairs["mixed"][:24]
    with serving(subtract) as server:
        served = play_pairs(ApiPolicy(server.url, "looker", concurrency=6), chosen, batch_size=24)
    here = play_pairs(PixelDiffPolicy(), chosen)
    assert [e.answer for e in served] == [e.answer for e in here]
    assert mean_metrics(served) == mean_metrics(here)
    assert 2 <= server.most <= 6


def test_concurrency_one_asks_one_after_the_other(observation):
    with serving(always(completion("[]"))) as server:
        ApiPolicy(server.url, "looker", concurrency=1).act([observation] * 4)
    assert server.most == 1 and len(server.requests) == 4


def test_tokens_are_counted_and_priced(observation):
    with serving(always(completion("[]", usage=(1500, 30)))) as server:
        policy = ApiPolicy(server.url, "looker", price=(2.0, 10.0))
        for _ in range(2):
            policy.act([observation] * 5)
    assert policy.usage == Usage(answers=10, prompt_tokens=15_000, completion_tokens=300)
    assert policy.usage_json()["cost"] == pytest.approx(15_000 * 2e-6 + 300 * 10e-6)


def test_answers_without_counts_are_said_to_be_uncounted(observation):
    _, usage = ask(observation, completion("[]", usage=None))
    assert usage == Usage(answers=1, uncounted=1)


# Failures


@pytest.mark.parametrize(
    "failure",
    [
        (429, {}, {"error": {"message": "slow down"}}),
        (429, {"Retry-After": "30"}, {}),
        (500, {}, b"oops"),
        (503, {}, b""),
        (200, {}, b"<html>gateway</html>"),
        (200, {}, {"error": {"message": "provider failed"}}),
        (200, {}, {"choices": [{"message": None}]}),
    ],
    ids=["429", "429-later", "500", "503", "html", "error-in-200", "no-message"],
)
def test_what_may_pass_is_tried_again(observation, failure):
    answer = in_turn(failure, failure, (200, {}, completion("[[1, 2, 3, 4]]")))
    with serving(answer) as server:
        policy = ApiPolicy(server.url, "looker")
        assert policy.act([observation]) == ["[[1, 2, 3, 4]]"]
    assert len(server.requests) == 3 and policy.usage.retries == 2


def test_waits_double_or_last_as_long_as_the_endpoint_asks(observation, monkeypatch):
    monkeypatch.setattr(dig_env.agents.policies.endpoint, "MAX_WAIT_S", 60.0)
    waits = []
    monkeypatch.setattr(dig_env.agents.policies.endpoint.time, "sleep", waits.append)
    busy, later = (500, {}, {}), (429, {"Retry-After": "17"}, {})
    with serving(in_turn(busy, busy, busy, later, (200, {}, completion("[]")))) as server:
        ApiPolicy(server.url, "looker").act([observation])
    assert waits[3] == 17.0
    for attempt, wait in enumerate(waits[:3]):
        assert 2**attempt / 2 <= wait <= 2**attempt


def test_a_timeout_is_tried_again(observation):
    asked, asked_again = threading.Event(), threading.Event()

    def slow_once(_):
        if asked.is_set():
            asked_again.set()
        else:
            asked.set()
            asked_again.wait(60)
        return 200, {}, completion("[[1, 2, 3, 4]]")

    with serving(slow_once) as server:
        policy = ApiPolicy(server.url, "looker", timeout_s=1.0)
        assert policy.act([observation]) == ["[[1, 2, 3, 4]]"]
    assert policy.usage.retries == 1


def test_an_endpoint_that_keeps_failing_ends_the_evaluation(observation):
    with serving(always({})) as server:
        policy = ApiPolicy(server.url, "looker", retries=2)
        with pytest.raises(ApiError, match="failed 3 times, lastly so: what came back is no chat"):
            policy.act([observation])
    assert len(server.requests) == 3


def test_an_endpoint_that_is_not_there_is_named(observation):
    with serving(always({})) as server:
        url = server.url
    with pytest.raises(ApiError, match=f"{url}/chat/completions failed 2 times.*ConnectError"):
        ApiPolicy(url, "looker", retries=1).act([observation])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Put the key into the environment variable OPENAI_API_KEY"),
        (404, "model 'looker'.*no such model"),
        (400, "the request's fields: .*'temperature': 0"),
    ],
)
def test_a_refusal_is_not_tried_again_and_says_what_to_do(observation, status, message):
    refuse = in_turn((status, {}, {"error": {"message": "no such model"}}))
    with serving(refuse) as server, pytest.raises(ApiError, match=message):
        ApiPolicy(server.url, "looker", concurrency=1).act([observation] * 3)
    assert len(server.requests) < 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url='localhost:8000': give a URL"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"retries": -1}, "retries=-1"),
        ({"timeout_s": 0}, "timeout_s=0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ApiPolicy(**({"base_url": "http://localhost:1/v1", "model": "looker"} | settings))


# Thoughts


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_thought_apart_is_no_part_of_the_answer(observation, field):
    body = completion("[[1, 2, 30, 40]]", **{field: "maybe [[500, 500, 600, 600]]"})
    text, _ = ask(observation, body)
    assert text == "<think>maybe [[500, 500, 600, 600]]</think>[[1, 2, 30, 40]]"
    assert parse_boxes(text).boxes.tolist() == [[0.001, 0.002, 0.03, 0.04]]


DRAFT = "The cube: [[500, 500, 600, 600]]. But wait,"


@pytest.mark.parametrize(
    "body",
    [
        completion(None, "length", reasoning=DRAFT),
        completion("", "length", reasoning_content=DRAFT),
        completion("<think>" + DRAFT, "length"),
        completion(DRAFT, "length"),
        completion(None, "length", reasoning="I close it with </think>. " + DRAFT),
    ],
    ids=["apart", "older field", "opened in the text", "opened in the template", "with a mark"],
)
def test_a_thought_that_was_cut_off_is_no_answer(observation, body):
    text, usage = ask(observation, body)
    assert usage.cut_off == 1
    assert not parse_boxes(text).ok


def test_an_answer_after_a_closed_thought_counts_although_it_was_cut_off(observation):
    text, _ = ask(observation, completion("thought</think>[[1, 2, 30, 40]] This", "length"))
    assert parse_boxes(text).ok


def test_a_refusal_to_answer_is_an_empty_answer(observation):
    text, usage = ask(observation, completion(None, "content_filter", refusal="I cannot"))
    assert text == "" and usage.answers == 1


# The command line and the example


def test_the_example_evaluates_the_model_of_an_endpoint():
    program = (ROOT / "examples/evaluation/evaluate_api_model.py").read_text()
    program = program.replace("episodes=20", "episodes=3")
    with serving(always(completion("[[400, 400, 500, 500]]", reasoning="hm"))) as server:
        ran = subprocess.run(
            [sys.executable, "-c", program, server.url, "looker"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert ran.returncode == 0, ran.stderr
    assert "format          1.000  (1.000 to 1.000)" in ran.stdout
    assert "answers=3" in ran.stdout
    assert images_of(server.requests[0][2])[0].shape == (240, 320, 3)


def test_eval_asks_an_endpoint_and_tells_what_it_took(tmp_path):
    def subtract(body):
        image_a, image_b = images_of(body)
        (text,) = PixelDiffPolicy().act([{"image_a": image_a, "image_b": image_b}])
        return 200, {}, completion(text)

    out, page = tmp_path / "result.json", tmp_path / "result.html"
    with serving(subtract) as server:
        command = [
            *(sys.executable, "-c", "from dig_env.agents.cli.main import main; main()", "eval"),
            *("--policy", "looker", "--base-url", server.url, "--api-key-env", "LOOKER_KEY"),
            *("--stage", "mixed", "--episodes", "4", "--quality", SMALL.quality),
            *("--price", "1", "2", "--request", '{"seed": 7}'),
            *("--out", str(out)),
        ]
        environment = os.environ | {"LOOKER_KEY": "sk-secret"}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert {body["seed"] for _, _, body in server.requests} == {7}
    result = json.loads(out.read_text())
    assert result["usage"]["answers"] == len(result["answers"]) == 4
    assert result["usage"]["cost"] == pytest.approx((4 * 900 * 1 + 4 * 20 * 2) / 1e6)
    assert result["f1"] > 0.3
    everything = ran.stdout + ran.stderr + out.read_text() + page.read_text()
    assert "sk-secret" not in everything
    assert "cost" in ran.stdout and "3600" in page.read_text()
