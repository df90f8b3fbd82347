"""The pages in the browser, used as people use them: real clicks, drags, keys and fingers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.ui import Select, WebDriverWait
from small import SMALL

from dig_env import parse_boxes, score
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.human_answers import append_answers, read_answers
from dig_env.agents.evaluation.pairs import evaluate_stored, pair_seeds
from dig_env.agents.web.inspector import inspector_app, open_collection
from dig_env.agents.web.server import bind, truth_of
from dig_env.scenes import STAGES, Difficulty, PairDataset, plan_pair, render_dataset

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
SEEDS = [seed for seed, _ in zip(pair_seeds(0, "test"), range(20), strict=False)]
EARLIER = {
    **{"stage": "dual", "width": SMALL.width, "height": SMALL.height, "quality": SMALL.quality},
    **{"seconds": 5.0, "pair_seed": SEEDS[0], "answer": "[]", "reward": 0.0, "f1": 0.0, "iou": 0.0},
}
"""What a session left that was ended after its first answer."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        missing = "no chromium and chromedriver: apt-get install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    yield Browser(driver)
    driver.quit()


class Browser:
    """Short words for what a human does."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url, width=1000, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.all(selector)[0].text

    def until(self, condition):
        return WebDriverWait(self.driver, 120, 0.05).until(lambda _: condition())

    def play(self, url, stage, **size):
        self.open(f"{url}?stage={stage}", **size)
        self.until(lambda: self.all("#submit:enabled"))

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def drag(self, canvas, start, end, kind=interaction.POINTER_MOUSE):
        """Press, move and let go; start and end in the unit frame of the image."""
        frame = self.driver.execute_script("return arguments[0].getBoundingClientRect()", canvas)
        points = [
            (round(frame["x"] + x * frame["width"]), round(frame["y"] + y * frame["height"]))
            for x, y in (start, end)
        ]
        actions = ActionBuilder(self.driver, mouse=PointerInput(kind, kind), duration=20)
        pointer = actions.pointer_action
        pointer.move_to_location(*points[0]).pointer_down()
        pointer.move_to_location(*points[1]).pointer_up()
        actions.perform()

    def submitted(self):
        """The answer in text, once its result is there."""
        self.until(lambda: self.all("#next")[0].is_displayed() and self.text("#reward"))
        return self.text("#text")

    def is_too_wide(self):
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth > innerWidth"
        )


@pytest.fixture(scope="module")
def game(tmp_path_factory):
    """The command, as a human starts it: its address and its file of answers."""
    out = tmp_path_factory.mktemp("play") / "answers.jsonl"
    append_answers(out, [EARLIER])
    size = ("--width", SMALL.width, "--height", SMALL.height, "--quality", SMALL.quality)
    process = subprocess.Popen(
        [sys.executable, "-uc", "from dig_env.agents.cli.main import main; main()", "play"]
        + [str(word) for word in (*size, "--out", out, "--port", 0)],
        stdout=subprocess.PIPE,
        text=True,
    )
    url = next(
        re.search(r"http://127\.0\.0\.1:\d+/", line) for line in process.stdout if "http" in line
    )
    yield url[0], out
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130


def last_answer(out):
    return json.loads(out.read_text().splitlines()[-1])


def test_boxes_drawn_with_the_mouse_earn_what_a_policy_would(game, browser, renderer):
    url, out = game
    browser.play(url, "dual")
    # The first pair has its answer from the session before.
    pair = renderer.render(plan_pair(SEEDS[1], STAGES["dual"]))
    for canvas, (x0, y0, x1, y1) in zip(browser.all(".canvas"), pair.boxes_unit, strict=True):
        browser.drag(canvas, (x0, y0), (x1, y1))
    browser.all("#submit")[0].click()
    answer = browser.submitted()
    earned = score(answer, pair.boxes_unit)
    assert browser.text("#reward") == f"{earned.total:.3f}"
    assert earned.f1 == 1.0 and earned.iou > 0.9
    kept = last_answer(out)
    assert (kept["pair_seed"], kept["answer"]) == (SEEDS[1], answer)
    assert (kept["reward"], kept["iou"]) == (earned.total, earned.iou)
    shown = browser.text("#matches")
    assert [f"{iou:.3f}" in shown for *_, iou in earned.matches] == [True, True]
    for difference in pair.differences:
        assert difference.change in shown
    assert len(browser.all(".box.true")) == len(browser.all(".box.answer")) == 4
    assert browser.text("#summary tr:last-child").startswith("dual 2 ")


def test_the_keyboard_alone_draws_answers_and_goes_on(game, browser):
    url, out = game
    browser.play(url, "single")
    browser.keys(Keys.ENTER, *[Keys.ARROW_RIGHT] * 3, *[Keys.ARROW_DOWN] * 2)
    ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(
        Keys.SHIFT
    ).perform()
    browser.keys(Keys.ENTER, Keys.ENTER, "2", Keys.DELETE, Keys.DELETE, "s")
    assert browser.submitted() == "[[450, 440, 620, 600]]"
    first = last_answer(out)["pair_seed"]
    browser.keys("n")
    browser.until(lambda: browser.all("#submit:enabled"))
    assert not browser.all(".box")
    browser.keys("s")
    assert browser.submitted() == "[]"
    assert [first, last_answer(out)["pair_seed"]] == SEEDS[:2]


def test_a_finger_draws_moves_and_resizes_on_a_phone(game, browser):
    browser.play(game[0], "dual", width=375, height=812)
    Select(browser.all("#stage")[0]).select_by_visible_text("mixed")
    browser.until(lambda: browser.all("#submit:enabled"))
    assert browser.driver.current_url.endswith("?stage=mixed")
    touch = interaction.POINTER_TOUCH
    first, second = browser.all(".canvas")
    browser.drag(second, (0.8, 0.8), (0.8, 0.8), touch)  # a tap draws nothing
    assert not browser.all(".box")
    browser.drag(second, (0.2, 0.2), (0.5, 0.4), touch)
    browser.drag(first, (0.3, 0.3), (0.4, 0.5), touch)
    browser.drag(first, (0.6, 0.6), (0.7, 0.8), touch)
    assert not browser.is_too_wide()
    browser.all("#submit")[0].click()
    drawn = parse_boxes(browser.submitted()).boxes
    np.testing.assert_allclose(drawn, [[0.3, 0.4, 0.7, 0.8]], atol=0.01)
    assert not browser.is_too_wide()


def test_a_reload_shows_the_same_pair_and_no_truth(game):
    with httpx.Client(base_url=game[0], timeout=120) as client:
        shown = [client.get("/api/pair?stage=mixed").json() for _ in range(2)]
    assert shown[0] == shown[1]
    fields = {"stage", "pair_seed", "prompt", "image_a", "image_b", "summary"}
    assert shown[0].keys() == fields


def test_a_bad_answer_is_refused_with_a_reason_and_costs_nothing(game):
    url, out = game
    before = out.read_bytes()
    with httpx.Client(base_url=url, timeout=120) as client:
        pair = client.get("/api/pair?stage=single").json()
        due = {"stage": "single", "pair_seed": pair["pair_seed"]}
        for answer, status, reason in [
            (due | {"boxes": [[0.5, 0.5, 0.4, 0.6]]}, 400, "x0 < x1"),
            (due | {"boxes": {"a": 1}}, 400, "float"),
            (due | {"boxes": [], "pair_seed": "x"}, 400, "pair_seed"),
            (due | {"boxes": [], "pair_seed": SEEDS[-1]}, 409, "not open any more"),
            (["boxes"], 400, '"boxes"'),
        ]:
            refused = client.post("/api/answer", json=answer)
            assert (refused.status_code, reason in refused.json()["error"]) == (status, True)
        form = client.post("/api/answer", data={"boxes": "[]"})
        assert (form.status_code, form.json()["error"]) == (
            400,
            "send the answer as application/json",
        )
        assert client.get("/api/pair?stage=triple").status_code == 400
        assert out.read_bytes() == before
        assert client.get("/api/pair?stage=single").json() == pair


def test_an_answer_that_cannot_be_saved_waits_for_the_next_one(game):
    url, out = game
    before, away = out.read_text(), out.parent.with_name("away")
    warnings = []
    with httpx.Client(base_url=url, timeout=120) as client:
        for there in (False, True):
            pair = client.get("/api/pair?stage=single").json()
            given = {"stage": "single", "pair_seed": pair["pair_seed"], "boxes": []}
            if not there:
                out.parent.rename(away)
            warnings.append(client.post("/api/answer", json=given).json()["warning"])
            if not there:
                away.rename(out.parent)
    assert "saved with the next: 1" in warnings[0] and not warnings[1]
    assert out.read_text().startswith(before)
    assert len(out.read_text().splitlines()) == len(before.splitlines()) + 2


def test_answers_of_other_images_are_left_out_and_foreign_lines_are_named(tmp_path):
    file = tmp_path / "answers.jsonl"
    append_answers(file, [EARLIER, EARLIER | {"width": 320}])
    assert read_answers(file, SMALL) == [EARLIER]
    file.write_text(file.read_text() + '{"stage": "single"}\n')
    with pytest.raises(ValueError, match=r"answers.jsonl line 3 is no answer"):
        read_answers(file, SMALL)
    with pytest.raises(FileNotFoundError, match="there is no .*dig-env play"):
        read_answers(tmp_path / "none", SMALL)


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is in use.*--port 0"):
            bind("127.0.0.1", port)
    with pytest.raises(OSError, match="--port 99999"):
        bind("127.0.0.1", 99999)


def test_where_the_camera_moved_each_image_shows_its_own_true_boxes(renderer):
    moving = Difficulty(differences=(2, 2), changes=("add", "color"), camera_shift=0.2)
    pair = renderer.render(plan_pair(SEEDS[0], moving))
    scale = np.tile([SMALL.width, SMALL.height], 2)
    for told, difference in zip(truth_of(pair), pair.differences, strict=True):
        for shown, box in zip(told["shown"], (difference.box_a, difference.box_b), strict=True):
            assert shown == (None if box is None else pytest.approx(np.array(box) / scale))
    assert any(None in told["shown"] for told in truth_of(pair))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, renderer):
    path = tmp_path_factory.mktemp("inspected") / "pairs"
    render_dataset(path, {"single": 4, "mixed": 12}, "test", SMALL, workers=1)
    return path


@pytest.fixture(scope="module")
def evaluation(folder, tmp_path_factory):
    """A file as ``dig-env eval --dataset --out`` writes it."""
    report = evaluate_stored(PixelDiffPolicy(), folder, stage="mixed")
    result = report.to_json() | {
        **{"policy": "pixeldiff", "reward_name": "full", "dialect": "strict"},
        **{"coordinates": "norm1000"},
        **{"quality": None, "answers": [episode.to_json() for episode in report.episodes]},
    }
    path = tmp_path_factory.mktemp("evaluation") / "result.json"
    path.write_text(json.dumps(result))
    return path, report


@pytest.fixture
def inspect():
    """Serves the inspector of a path, and ends it."""
    running = []

    def start(path):
        collection, listener = open_collection(path), bind("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(inspector_app(collection), log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, collection))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread, collection in running:
        server.should_exit = True
        thread.join()
        collection.close()


def seeds_shown(browser):
    return [
        int(re.search(r"/pair/(\d+)", card.get_attribute("href"))[1])
        for card in browser.all(".card")
    ]


def test_the_inspector_filters_a_dataset_by_stage_and_change(folder, inspect, browser):
    browser.open(inspect(folder))
    dataset = PairDataset(folder)
    assert (len(seeds_shown(browser)), browser.text(".count")) == (12, "page 1 of 2")
    browser.keys(Keys.ARROW_RIGHT)
    browser.until(lambda: browser.text(".count") == "page 2 of 2")
    assert len(seeds_shown(browser)) == 4
    Select(browser.all("[name=stage]")[0]).select_by_visible_text("mixed")
    Select(browser.all("[name=change]")[0]).select_by_visible_text("color")
    browser.all("form button")[0].click()
    expected = [
        seed
        for seed in dataset.pair_seeds("mixed", "test")
        if "color" in [difference.change for difference in dataset.pair(seed).differences]
    ]
    browser.until(lambda: browser.all("[name=stage] option:checked")[0].text == "mixed")
    assert 0 < len(expected) < 12 and seeds_shown(browser) == expected
    loaded = "return [...document.images].every((image) => image.complete && image.naturalWidth)"
    browser.until(lambda: browser.driver.execute_script(loaded))


def test_the_inspector_blinks_and_takes_the_boxes_off(evaluation, inspect, browser):
    path, report = evaluation
    browser.open(f"{inspect(path)}pair/{report.episodes[0].pair.plan.seed}", width=375, height=812)
    first = report.episodes[0]
    boxes = 2 * (len(first.pair.differences) + len(first.score.answer.boxes))
    images = browser.all(".canvas img")
    assert len(browser.all(".box")) == boxes and not browser.is_too_wide()
    assert all(image.is_displayed() for image in images)
    browser.keys("x")
    assert not browser.all(".box")
    browser.keys("b")
    assert images[0].location == images[1].location
    for shown in ([True, False], [False, True], [True, False]):
        browser.until(lambda now=shown: [image.is_displayed() for image in images] == now)
    browser.keys("b", Keys.ARROW_RIGHT)
    browser.until(lambda: str(report.episodes[1].pair.plan.seed) in browser.driver.current_url)
    assert not browser.all(".box"), "what was chosen stays chosen"


def test_the_inspector_filters_an_evaluation_by_reward(evaluation, inspect, browser):
    path, report = evaluation
    rewards = {episode.pair.plan.seed: episode.score.total for episode in report.episodes}
    bound = float(np.median(list(rewards.values())))
    browser.open(inspect(path), width=375, height=812)
    assert not browser.is_too_wide()
    browser.all("[name=low]")[0].send_keys(repr(bound))
    browser.all("form button")[0].click()
    browser.until(lambda: "low=" in browser.driver.current_url)
    assert seeds_shown(browser) == [seed for seed, reward in rewards.items() if reward >= bound]
    browser.all(".card")[0].click()
    browser.until(lambda: browser.all("#matches tr"))
    seed = next(seed for seed, reward in rewards.items() if reward >= bound)
    assert f"Reward {rewards[seed]:.3f}" in browser.text("section")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "there is no"), ("not JSON", "no result of"), ('{"stage": "single"}', "no result of")],
)
def test_what_cannot_be_inspected_is_an_error_that_says_what_can(tmp_path, content, reason):
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=f"{reason}.*dig-env eval --out"):
        open_collection(path)
