"""DiG in verifiers: its own loader, rollouts and command line, with a model server on loopback.

Needs .venv-frameworks: see constraints-frameworks.txt.
"""

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

vf = pytest.importorskip("verifiers.v1")

from answers_corpus import CORPUS  # noqa: E402

from dig_env import REWARDS, format_boxes, instruction, score  # noqa: E402
from dig_env.scenes import PairDataset  # noqa: E402

ROOT = Path(__file__).parents[2]
PARTS = ("format", "f1", "iou", "precision", "recall")


@pytest.fixture(autouse=True)
def environment_package(monkeypatch):
    """As if environments/dig_v0 were installed."""
    monkeypatch.syspath_prepend(ROOT / "environments/dig_v0")


@pytest.fixture
def model():
    """An OpenAI-compatible model server whose replies ``model.reply(messages)`` decides."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            message = server.reply(request["messages"])
            status = 200 if message is not None else 400
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            body = json.dumps(reply | {"choices": [choice]}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def make_env(dataset, **taskset):
    config = {"id": "DiG-v0", "dataset": dataset, "stage": "mixed", **taskset}
    return vf.load_environment(vf.resolve_env_config({"taskset": config}))


def play(env, tasks, model) -> list:
    """One rollout of each task; their traces, in order."""
    client = vf.EvalClientConfig(base_url=model.url, api_key_var="NO_KEY")
    context = vf.ModelContext(client=client, model="m", sampling=vf.SamplingConfig())

    async def run():
        at_once = asyncio.Semaphore(8)
        async with env.serving():
            slots = [slot for task in tasks for slot in env.slots(task)]
            return await asyncio.gather(*(env.run_slot(slot, context, at_once) for slot in slots))

    return [episode.traces[0] for episode in asyncio.run(run())]


def pictures(messages) -> list[np.ndarray]:
    urls = [part["image_url"]["url"] for part in messages[0]["content"] if "image_url" in part]
    files = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls]
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def stored(dataset) -> list:
    folder = PairDataset(dataset)
    return [folder.pair(seed) for seed in folder.pair_seeds("mixed", "train")]


def test_the_model_sees_two_images_and_the_instruction_and_nothing_else(dataset, model):
    seen = []

    def reply(messages):
        seen.append(messages)
        return {"role": "assistant", "content": "[]"}

    model.reply = reply
    env = make_env(dataset)
    play(env, env.taskset.take(1), model)
    ((message,),) = seen
    assert message["role"] == "user"
    assert [part["type"] for part in message["content"]] == ["image_url", "image_url", "text"]
    assert message["content"][2]["text"] == instruction("norm1000")
    pair = stored(dataset)[0]
    for given, shown in zip(pictures([message]), (pair.image_a, pair.image_b), strict=True):
        np.testing.assert_array_equal(given, shown)


def test_a_dataset_is_played_in_its_order_and_ends(dataset):
    tasks = list(make_env(dataset).taskset)
    assert [task.data.pair_seed for task in tasks] == [pair.plan.seed for pair in stored(dataset)]
    assert len({task.key for task in tasks}) == len(tasks)


def test_fresh_pairs_have_no_end_and_are_those_of_the_environment(dataset):
    import gymnasium as gym

    small = {"width": 64, "height": 48, "quality": "draft", "split": "test"}
    taskset = make_env(None, seed=3, **small).taskset
    assert not taskset.bounded
    env = gym.make("DiG-v0", stage="mixed", **small)
    for seed, task in zip((3, None), taskset.take(2), strict=True):
        observation, info = env.reset(seed=seed)
        assert task.data.pair_seed == info["pair_seed"]
        shown = pictures([task.data.prompt[0].model_dump()])
        np.testing.assert_array_equal(shown[0], observation["image_a"])
        np.testing.assert_array_equal(shown[1], observation["image_b"])
    env.close()


def test_rewards_are_dig_envs_to_the_last_bit(dataset, model):
    env = make_env(dataset)
    (row,) = env.taskset.take(1)
    tasks = [
        row.with_data(prompt=[vf.UserMessage(content=str(number))], answer=case.truth_text)
        for number, case in enumerate(CORPUS)
    ]
    model.reply = lambda messages: {
        "role": "assistant",
        "content": CORPUS[int(messages[0]["content"])].answer,
    }
    traces = play(env, tasks, model)

    def check(reward):
        for case, trace in zip(CORPUS, traces, strict=True):
            expected = score(case.answer, case.truth, REWARDS[reward])
            assert trace.reward == expected.total, case.kind
            assert trace.metrics == {part: getattr(expected, part) for part in PARTS}, case.kind

    check("full")
    for reward in REWARDS:
        config = row.config.model_copy(update={"reward": reward})
        for task, trace in zip(tasks, traces, strict=True):
            asyncio.run(type(row)(task.data, config).score(trace))
        check(reward)


def test_a_thought_that_was_cut_off_is_no_answer(dataset, model):
    """Whether the chat template or the server's reasoning parser takes the "<think>" away."""
    env = make_env(dataset, task={"opening": "<think>"})
    (task,) = env.taskset.take(1)
    right = task.data.answer
    draft = f"Maybe {right}? Or"
    replies = {
        1.0: [
            {"content": f"Hm.</think>{right}"},
            {"content": right, "reasoning_content": draft},
        ],
        0.0: [{"content": draft}, {"content": None, "reasoning_content": draft}],
    }
    for reward, messages in replies.items():
        for message in messages:
            model.reply = lambda _, message=message: {"role": "assistant", **message}
            (trace,) = play(env, [task], model)
            assert trace.reward == pytest.approx(reward), message


def test_a_model_that_fails_is_an_error_and_earns_no_reward(dataset, model):
    model.reply = lambda _: None
    env = make_env(dataset)
    (trace,) = play(env, env.taskset.take(1), model)
    assert not trace.ok and not trace.rewards
    assert "400" in trace.last_error.message


def test_wrong_settings_are_told_before_a_model_is_asked(dataset):
    with pytest.raises(ValueError, match="unknown reward 'ful'"):
        make_env(dataset, task={"reward": "ful"})
    with pytest.raises(ValueError, match="no pairs of stage='dual'"):
        list(make_env(dataset, stage="dual").taskset)


def test_prime_rls_file_names_a_taskset_that_verifiers_makes(dataset):
    """The rest of the file was held against prime-rl's own schema by hand (docs/trainers.md)."""
    file = tomllib.loads((ROOT / "examples/trainers/prime_rl.toml").read_text())
    (source,) = file["orchestrator"]["train"]["source"]
    source["env"]["taskset"]["dataset"] = dataset
    env = vf.load_environment(vf.resolve_env_config(source["env"]))
    assert len(list(env.taskset)) == len(stored(dataset))


def test_its_command_line_evaluates_the_environment(dataset, model, tmp_path):
    pairs = stored(dataset)
    answers = [format_boxes(pair.boxes_unit[: 1 + number % 2]) for number, pair in enumerate(pairs)]

    def reply(messages):
        image_b = pictures(messages)[1]
        (number,) = (n for n, pair in enumerate(pairs) if np.array_equal(image_b, pair.image_b))
        return {"role": "assistant", "content": answers[number]}

    model.reply = reply
    options = {
        "--env.taskset.dataset": str(dataset),
        "--env.taskset.stage": "mixed",
        "--client.base-url": model.url,
        "--client.api-key-var": "NO_KEY",
        "--model": "m",
        "--output-dir": str(tmp_path),
    }
    command = [Path(sys.executable).with_name("vf-eval"), "DiG-v0", "--no-push", "--no-rich"]
    command += [word for option in options.items() for word in option]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "environments/dig_v0")])
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (file,) = tmp_path.rglob("traces.jsonl")
    traces = [json.loads(line)["traces"][0] for line in file.read_text().splitlines()]
    rewards = {trace["task"]["data"]["pair_seed"]: trace["rewards"]["dig"] for trace in traces}
    assert rewards == {
        pair.plan.seed: {"score": score(answer, pair.boxes_unit).total, "weight": 1.0}
        for pair, answer in zip(pairs, answers, strict=True)
    }
