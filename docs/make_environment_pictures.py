"""Render the animated pictures of docs/environments with Blender, through the environments.

python docs/make_environment_pictures.py

Green boxes are true, red ones are the answer of ``dig_env.agents.PixelDiffPolicy``, which subtracts
the images. The pairs are of the test split, chosen to show every change and every way to fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dig_env import NumericView
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.policies.align_chat import right_answers
from dig_env.align import TASKS
from dig_env.drawing import ANSWERED_COLOR, GUTTER_PX, TRUE_COLOR

FOLDER = Path(__file__).parent / "environments"
SMALL, LARGE = {"width": 320, "height": 240}, {"width": 400, "height": 300}
COMMON = {"quality": "high", "device": "cpu", "render_mode": "rgb_array"}
PAIR_SEEDS = {
    "single": (768284980934786, 715966785233372, 804287802205414, 792592313566976),
    "dual": (742238729525698, 826149442129750, 792592313566976, 804287802205414),
    "mixed": (638888162394841, 826149442129750, 819867808278080, 742238729525698),
    "zoom": (733702744277229, 742238729525698),
    "numeric": (715966785233372, 572403452448231),
    "align": tuple(range(562949953421312, 562949953421312 + 10)),
}
REGION_COLOR = (40, 90, 220)
INK, PAPER = (70, 70, 70), (255, 255, 255)
LINE_PX = 22
Frame = tuple[Image.Image, int]
"""A picture and for how many milliseconds it is shown."""


def main() -> None:
    """Render all and say how large each file is."""
    films = {f"dig_{stage}": pairs(stage) for stage in ("single", "dual", "mixed")}
    others = {"dig_zoom": zooms(), "numeric_view": numbers(), "dig_align": questions()}
    for name, film in (films | others).items():
        path = FOLDER / f"{name}.webp"
        images, milliseconds = zip(*film, strict=True)
        images[0].save(
            path,
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            quality=90,
            method=6,
            kmax=1,  # whole frames: parts of frames leave traces of the frame before
        )
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {len(images)} frames")


def pairs(stage: str) -> Iterator[Frame]:
    """Each pair, then its boxes, then A and B in turns in the place of B."""
    env = gym.make("DiG-v0", stage=stage, **LARGE, **COMMON)
    for pair_seed in PAIR_SEEDS[stage]:
        observation, _ = env.reset(options={"pair_seed": pair_seed})
        yield picture(panels(env), "AB", first_sentence(observation)), 1800
        answer = PixelDiffPolicy().act([observation])[0]
        _, reward, _, _, info = env.step(answer)
        image_a, image_b = panels(env)
        boxed = picture([image_a, image_b], "AB", answer, scores(reward, info))
        yield boxed, 1500
        for _ in range(2):
            yield picture([image_a, image_a], "AA", answer, scores(reward, info)), 450
            yield boxed, 450
        yield boxed, 900
    env.close()


def zooms() -> Iterator[Frame]:
    """Each answered box is looked at in A and in B before the answer is given."""
    env = gym.make("DiG-Zoom-v0", stage="dual", turns=8, **SMALL, **COMMON)
    for pair_seed in PAIR_SEEDS["zoom"]:
        observation, _ = env.reset(options={"pair_seed": pair_seed})
        nothing = [*panels(env), observation["zoom"]]
        yield picture(nothing, ["A", "B", "zoom"], first_sentence(observation)), 1800
        answer = PixelDiffPolicy().act([observation])[0]
        for box, name in product(json.loads(answer), "AB"):
            request = f"zoom({name}, {box})"
            observation, *_ = env.step(request)
            images = dict(zip("AB", panels(env), strict=True))
            outline(images[name], observation["region"])
            images[f"zoom of {name}"] = observation["zoom"]
            yield picture(list(images.values()), list(images), request), 1400
        _, reward, _, _, info = env.step(answer)
        images |= dict(zip("AB", panels(env), strict=True))
        yield picture(list(images.values()), list(images), answer, scores(reward, info)), 3000
    env.close()


def numbers() -> Iterator[Frame]:
    """An action on its way from 0 to the one that stands for the true box."""
    view = NumericView(gym.make("DiG-v0", **SMALL, **COMMON))
    for pair_seed in PAIR_SEEDS["numeric"]:
        for part in np.linspace(0, 1, 9):
            observation, _ = view.reset(options={"pair_seed": pair_seed})
            action = part * view.encode(view.unwrapped.pair.boxes_unit)
            _, reward, _, _, info = view.step(action)
            images = [*panels(view), np.repeat(observation[6, :, :, None], 3, axis=2)]
            text = f"action [{', '.join(f'{round(value, 2) + 0.0:+.2f}' for value in action)}]"
            earned = scores(reward, info)
            yield picture(images, ["A", "B", "difference"], text, earned), 400 + 1600 * (part == 1)
    view.close()


def questions() -> list[Frame]:
    """A question of each task, turn by turn, with its right answers."""
    env = gym.make("DiG-Align-v0", **SMALL, **COMMON)
    frames = []
    for number, (task, pair_seed) in enumerate(zip(TASKS, PAIR_SEEDS["align"], strict=True)):
        env.reset(seed=number, options={"task": task, "pair_seed": pair_seed})
        question = env.unwrapped.question
        frames.append((env.render(), 1800))
        for answer in right_answers(question, "norm1000"):
            env.step(answer)
            frames.append((env.render(), 1800))
    env.close()
    height = max(np.flatnonzero((frame != 255).any(axis=(1, 2)))[-1] for frame, _ in frames) + 8
    return [(Image.fromarray(frame[:height]), duration) for frame, duration in frames]


def panels(env: gym.Env) -> list[np.ndarray]:
    """Both images as the environment draws them."""
    frame = env.render()
    width = (frame.shape[1] - GUTTER_PX) // 2
    return [frame[:, :width].copy(), frame[:, -width:].copy()]


def outline(image: np.ndarray, box_unit: np.ndarray) -> None:
    """Draw a region into an image."""
    height, width = image.shape[:2]
    canvas = Image.fromarray(image)
    corners = tuple(box_unit * (width, height, width, height) - (0, 0, 1, 1))
    ImageDraw.Draw(canvas).rectangle(corners, outline=REGION_COLOR, width=2)
    image[:] = canvas


def first_sentence(observation: dict[str, Any]) -> str:
    """What the prompt begins with."""
    return observation["prompt"].partition(". ")[0] + "."


def scores(reward: float, info: dict[str, Any]) -> str:
    """What an answer earned."""
    return f"reward {reward:.2f}   F1 {info['f1']:.2f}   IoU {info['iou']:.2f}"


def picture(
    images: Sequence[np.ndarray], names: Sequence[str], text: str = "", earned: str = ""
) -> Image.Image:
    """Images side by side, their names, a text, and what it earned."""
    height, width = images[0].shape[:2]
    step = width + GUTTER_PX
    canvas = Image.new("RGB", (len(images) * step - GUTTER_PX, height + 2 * LINE_PX), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    right, first, second = canvas.width - 4, height + LINE_PX / 2, height + 3 * LINE_PX / 2
    for index, (image, name) in enumerate(zip(images, names, strict=True)):
        canvas.paste(Image.fromarray(image), (index * step, 0))
        draw.text((index * step + 4, first), name, INK, font, "lm")
    draw.text((4, second), text, INK, font, "lm")
    if earned:
        draw.text((right, second), earned, INK, font, "rm")
        draw.text((right, first), "answered", ANSWERED_COLOR, font, "rm")
        draw.text((right - 76, first), "true", TRUE_COLOR, font, "rm")
    return canvas


if __name__ == "__main__":
    main()
