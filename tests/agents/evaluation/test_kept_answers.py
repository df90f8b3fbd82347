"""An evaluation through an endpoint loses no answer: not to failures, nor to a kill."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from endpoint import completion, images_of, serving
from paths import ROOT
from PIL import Image
from small import SMALL

import dig_env.agents.policies.endpoint
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.cli.common import HeldOut, PairAnswers
from dig_env.agents.cli.eval import eval, eval_align, eval_external
from dig_env.agents.cli.evaluation import Endpoint
from dig_env.agents.policies.endpoint import MOST_IN_A_ROW, ApiError, ApiPolicy
from dig_env.agents.policies.kept_answers import KeptAnswers
from dig_env.agents.policies.messages import said_and_thought
from dig_env.scenes import render_dataset

PAIRS = 6
COMMANDS = ("eval", "eval-external", "eval-align")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(dig_env.agents.policies.endpoint, "MAX_WAIT_S", 0.01)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept") / "pairs"
    render_dataset(folder, {"single": PAIRS, "mixed": PAIRS}, "test", SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Pairs that were drawn, in a COCO file."""
    folder = tmp_path_factory.mktemp("foreign")
    images, annotations = [], []
    for number in range(PAIRS):
        for side in "ab":
            picture = np.full((48, 64, 3), 90 + number, np.uint8)
            picture[10:20, 10:30] = 250 if side == "b" else picture[0, 0]
            Image.fromarray(picture).save(folder / f"{number}_{side}.png")
            images.append({"id": len(images), "file_name": f"{number}_{side}.png"})
        box = {"image_id": images[-1]["id"], "category_id": 1, "bbox": [10, 10, 20, 10]}
        annotations.append({"id": number} | box)
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "new"}]
    (folder / "pairs.json").write_text(json.dumps(content))
    return folder / "pairs.json"


def run(command, url, out, stored, foreign):
    """A command in this process; returns its exit code and its result."""
    endpoint = Endpoint(base_url=url, concurrency=2)
    arguments = {"policy": "looker", "out": out, "endpoint": endpoint}
    try:
        if command == "eval":
            eval(held_out=HeldOut(dataset=stored), **arguments)
        elif command == "eval-external":
            eval_external("coco", foreign, **arguments)
        else:
            arguments |= {"held_out": HeldOut(dataset=stored), "episodes": PAIRS}
            eval_align(task="text_to_box", **arguments)
    except SystemExit as stopped:
        return stopped.code, json.loads(out.read_text())
    return 0, json.loads(out.read_text())


def looks(body):
    """What differs between the first two images of a request."""
    images = images_of(body)
    if len(images) < 2 or images[0].shape != images[1].shape:
        return 200, {}, completion("[[100, 100, 300, 300]]")
    (text,) = PixelDiffPolicy().act([{"image_a": images[0], "image_b": images[1]}])
    return 200, {}, completion(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_question_that_fails_is_named_counted_and_asked_again_alone(
    command, stored, foreign, tmp_path, capsys
):
    broken, seen = [True], {}

    def third_fails(body):
        place = seen.setdefault(json.dumps(body["messages"]), len(seen))
        return (400, {}, {"error": "bad picture"}) if broken[0] and place == 2 else looks(body)

    out = tmp_path / "result.json"
    kept = tmp_path / "result.answers.jsonl"
    with serving(third_fails) as server:
        code, first = run(command, server.url, out, stored, foreign)
        said = capsys.readouterr().err
        assert code == 1 and kept.is_file()
        assert len(first["failed"]) == 1 and "bad picture" in first["failed"][0]["reason"]
        assert f"1 of {PAIRS} questions got no answer ({first['failed'][0]['question']})" in said
        assert first["unreadable"]["of"] == first["usage"]["answers"] == PAIRS - 1
        broken[0], before = False, len(server.requests)
        code, again = run(command, server.url, out, stored, foreign)
        assert code == 0 and len(server.requests) == before + 1
        assert again["failed"] == [] and again["usage"]["answers"] == PAIRS
        assert not kept.exists()
        whole = run(command, server.url, tmp_path / "whole.json", stored, foreign)[1]
    for result in (again, whole):
        result.pop("command")
    assert again == whole


def test_a_killed_evaluation_goes_on_where_it_was(foreign, tmp_path):
    stuck, out = threading.Event(), tmp_path / "result.json"
    answered = []

    def answers_three(body):
        if len(answered) == 3 and not stuck.is_set():
            stuck.wait(60)
        answered.append(1)
        return looks(body)

    with serving(answers_three) as server:
        words = ["--format", "coco", "--data", str(foreign), "--policy", "looker"]
        words += ["--base-url", server.url, "--concurrency", "1", "--out", str(out)]
        command = [sys.executable, "-m", "dig_env.agents.cli.main", "eval-external", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        while len(server.requests) < 4:
            time.sleep(0.05)
            assert process.poll() is None
        process.kill()
        process.wait()
        stuck.set()
        assert not out.exists()
        lines = (tmp_path / "result.answers.jsonl").read_text().splitlines()
        assert len(lines) == 3 and all(json.loads(line)["answer"] for line in lines)
        ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and "resuming with 3 answers" in ran.stderr, ran.stderr
    assert len(server.requests) == 4 + (PAIRS - 3)
    result = json.loads(out.read_text())
    assert result["f1"] == 1.0 and result["episodes"] == result["usage"]["answers"] == PAIRS


def test_ctrl_c_does_not_wait_for_requests_under_way(foreign, tmp_path):
    never = threading.Event()

    def hangs(body):
        never.wait(120)
        return looks(body)

    with serving(hangs) as server:
        words = ["--format", "coco", "--data", str(foreign), "--policy", "looker"]
        words += ["--base-url", server.url, "--out", str(tmp_path / "result.json")]
        # A shell that runs the tests in the background has its children ignore SIGINT.
        program = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            f"sys.argv = ['dig-env', 'eval-external', *{words!r}]; "
            "from dig_env.agents.cli.main import main; main()"
        )
        process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
        while not server.requests:
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130  # while the server still keeps it waiting
        never.set()


def test_a_line_that_was_cut_off_costs_one_answer(tmp_path):
    path = tmp_path / "answers.jsonl"
    for name in "abc":
        KeptAnswers(path).add(name, {"answer": name})
    path.write_bytes(path.read_bytes()[:-9])
    kept = KeptAnswers(path)
    assert kept.get("b") == {"answer": "b"} and kept.get("c") is None
    kept.add("d", {"answer": "d"})
    assert [len(KeptAnswers(path)), KeptAnswers(path).get("d")] == [3, {"answer": "d"}]


def test_another_model_or_request_gets_answers_of_its_own(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    observation = {"image_a": image, "image_b": image, "prompt": "?"}
    with serving(looks) as server:
        for name, fields in (("a", {}), ("b", {}), ("a", {"seed": 1}), ("a", {})):
            kept = KeptAnswers(tmp_path / "answers.jsonl")
            ApiPolicy(server.url, name, request=fields, kept=kept).act([observation])
    assert len(server.requests) == 3


def test_an_endpoint_that_breaks_down_ends_the_asking_and_keeps_what_came(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    observations = [{"image_a": image, "image_b": image, "prompt": f"{n}"} for n in range(60)]

    def breaks_down(body):
        return looks(body) if len(server.requests) <= 5 else (500, {}, {})

    kept = KeptAnswers(tmp_path / "answers.jsonl")
    with serving(breaks_down) as server:
        policy = ApiPolicy(server.url, "looker", retries=1, concurrency=1, kept=kept)
        with pytest.raises(ApiError, match=f"{MOST_IN_A_ROW} questions in a row") as stopped:
            policy.act(observations)
    assert stopped.value.answers == [] and len(kept) == 5
    assert len(server.requests) == 5 + 2 * MOST_IN_A_ROW


# What could not be read


@pytest.mark.parametrize("command", COMMANDS)
def test_an_evaluation_of_nothing_readable_says_so_and_fails(
    command, stored, foreign, tmp_path, capsys
):
    thought = completion("", reasoning_content="[[100, 100, 300, 300]]")
    with serving(lambda _: (200, {}, thought)) as server:
        code, result = run(command, server.url, tmp_path / "result.json", stored, foreign)
    said = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert f"{PAIRS} of {PAIRS} answers unreadable; the commonest reason: " in said
    assert f"{PAIRS} were a thought alone (reasoning_content)" in said
    assert result["unreadable"]["answers"] == result["usage"]["thought_only"] == PAIRS
    assert result["unreadable"]["reason"] in said


def test_some_unreadable_answers_are_counted_and_no_failure(foreign, tmp_path, capsys):
    turns = iter(["I see a cube.", "Nothing at all.", *["[[1, 2, 3, 4]]"] * PAIRS])
    with serving(lambda _: (200, {}, completion(next(turns)))) as server:
        code, result = run("eval-external", server.url, tmp_path / "r.json", None, foreign)
    assert code == 0 and result["unreadable"]["answers"] == 2
    assert f"2 of {PAIRS} answers unreadable; the commonest reason" in capsys.readouterr().err


def in_gemini(body):
    """What differs, as Gemini writes it, if the prompt shows its notation."""
    if '"box_2d": [y_min, x_min, y_max, x_max]' not in str(body["messages"]):
        return 200, {}, completion("What do you mean?")
    images = images_of(body)
    policy = PixelDiffPolicy(answers="gemini")
    (text,) = policy.act([{"image_a": images[0], "image_b": images[1]}])
    return 200, {}, completion(f"```json\n{text}\n```")


def test_a_known_family_is_asked_and_read_in_its_own_habit_and_told(foreign, tmp_path, capsys):
    out = tmp_path / "result.json"
    with serving(in_gemini) as server:
        endpoint = Endpoint(base_url=server.url)
        eval_external("coco", foreign, "google/gemini-2.5-pro", out=out, endpoint=endpoint)
        said = capsys.readouterr().err
        result = json.loads(out.read_text())
        assert result["f1"] == 1.0 and result["assumed"] == {}
        assert (result["dialect"], result["coordinates"]) == ("gemini", "norm1000")
        assert "answers are read as: gemini (ai.google.dev/" in said and result["prompt"] in said
        with pytest.raises(SystemExit):
            eval_external(
                "coco",
                foreign,
                "google/gemini-2.5-pro",
                out=out,
                answers=PairAnswers("strict"),
                endpoint=endpoint,
            )
    assert json.loads(out.read_text())["dialect"] == "strict"


def test_lenient_says_what_it_assumed(foreign, tmp_path, capsys):
    with serving(lambda _: (200, {}, completion("At (156, 208) to (469, 417)."))) as server:
        eval_external(
            "coco",
            foreign,
            "somebody/new-vlm",
            out=tmp_path / "r.json",
            answers=PairAnswers("lenient"),
            endpoint=Endpoint(base_url=server.url),
        )
    result = json.loads((tmp_path / "r.json").read_text())
    (note,) = result["assumed"]
    assert "read x first" in note and result["assumed"][note] == PAIRS
    assert result["f1"] == 1.0 and result["answers"][0]["error"] == note
    assert note in " ".join(capsys.readouterr().out.split())


BOX = "[[1, 2, 30, 40]]"
PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]


@pytest.mark.parametrize(
    ("message", "said", "thought"),
    [
        ({"content": BOX}, BOX, ""),
        ({"content": None}, "", ""),
        ({}, "", ""),
        ({"content": [{"type": "text", "text": BOX}]}, BOX, ""),
        ({"content": [*PARTS, {"type": "text", "text": BOX}]}, BOX, "Hm."),
        ({"content": ["[[1, 2,", " 30, 40]]"]}, BOX, ""),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "", ""),
        ({"content": BOX, "reasoning": "Hm."}, BOX, "Hm."),
        ({"content": "", "reasoning_content": BOX}, "", BOX),
        ({"content": [{"type": "image_url", "image_url": {}}, None, 3]}, "", ""),
    ],
)
def test_a_message_is_read_in_whatever_parts_it_comes(message, said, thought):
    assert said_and_thought(message) == (said, thought)


@pytest.mark.parametrize(
    ("body", "counter"),
    [
        (completion("", reasoning_content=BOX), "thought_only"),
        (completion("\n\n", reasoning=BOX), "thought_only"),
        (completion(None, refusal="I cannot."), "refused"),
        (completion(None, "content_filter"), "refused"),
        (completion(None, "tool_calls", tool_calls=[{"id": "1"}]), "without_content"),
        (completion(""), "without_content"),
        (completion(BOX, "length"), "cut_off"),
    ],
)
def test_replies_that_say_nothing_are_counted_by_their_kind(body, counter):
    image = np.zeros((48, 64, 3), np.uint8)
    with serving(lambda _: (200, {}, body)) as server:
        policy = ApiPolicy(server.url, "looker")
        policy.act([{"image_a": image, "image_b": image, "prompt": "?"}])
    names = ("thought_only", "refused", "without_content", "cut_off")
    counts = {name: getattr(policy.usage, name) for name in names}
    assert counts == dict.fromkeys(names, 0) | {counter: 1}


@pytest.mark.parametrize(
    "body", [{"choices": []}, {"choices": [{"message": {"content": {}}}]}, completion("", "error")]
)
def test_what_is_no_reply_is_tried_again(body):
    image = np.zeros((48, 64, 3), np.uint8)
    bodies = iter([body, completion(BOX)])
    with serving(lambda _: (200, {}, next(bodies))) as server:
        policy = ApiPolicy(server.url, "looker")
        assert policy.act([{"image_a": image, "image_b": image, "prompt": "?"}]) == [BOX]
    assert policy.usage.retries == 1
