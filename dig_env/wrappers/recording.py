"""Wrappers that keep what was played: pairs on disk, and statistics of each pair in its info."""

from __future__ import annotations

import copy
import errno
import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from dig_env.drawing import png
from dig_env.envs.dig import DiGEnv
from dig_env.envs.zoom import DiGZoomEnv
from dig_env.reward import PARTS
from dig_env.scenes import Pair
from dig_env.scenes.arguments import whole
from dig_env.scenes.files import locked, write_whole
from dig_env.scenes.measure.occlusion import hidden_share
from dig_env.wrappers.curriculum import check_answered_in_text, check_one

METADATA, IMAGES = "metadata.jsonl", "images"
"""What ``RecordPairs`` writes; Hugging Face's "imagefolder" wants the first name."""

_OF_ALIGN = ("task", "kind", "right", "read")
_RECORDED = ("pair_seed", "stage", *_OF_ALIGN, *PARTS, "error", "truth", "pair")
_IN_A_VECTOR = 'gym.make_vec(..., vectorization_mode="sync", wrappers=[{}])'


class PairStatistics(gym.Wrapper, RecordConstructorArgs):
    """Adds what the pair was like to the info of its answer, as ``info["pair"]``.

    Nothing is added before the answer, since all of it is about the truth. The lists have one
    entry a difference, in the order of ``info["truth"]``:

    - "differences", "objects": how many there are; objects of either image count.
    - "changes": "color", "shape", "size", "material", "add" or "delete".
    - "box_area": of the true box, as a fraction of the image.
    - "visible": the changed object's pixels as a fraction of the image, in the image that shows
      more of it.
    - "hidden": the part of its silhouette that other objects cover;
      ``dig_env.scenes.measure.occlusion``.
    - "contrast": mean CIE Lab distance (CIE76) between the images over its pixels.

    Args:
        env: a ``DiG-v0`` or ``DiG-Zoom-v0`` environment, wrapped or not. For a vector of them, give
            ``gym.make_vec(..., vectorization_mode="sync", wrappers=[PairStatistics])``.

    Raises:
        TypeError: the environment is another one.
    """

    def __init__(self, env: gym.Env) -> None:
        check_one(self, env, "coordinates", _IN_A_VECTOR.format("PairStatistics"))
        if not isinstance(env.unwrapped, (DiGEnv, DiGZoomEnv)):
            raise TypeError(
                f"PairStatistics wraps DiG-v0 and DiG-Zoom-v0, whose pairs are known, not {env}"
            )
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and add the statistics once the episode is over."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            pair = cast(DiGEnv | DiGZoomEnv, self.unwrapped).pair
            info = info | {"pair": _statistics(pair)}
        return observation, reward, terminated, truncated, info


class RecordPairs(gym.Wrapper, RecordConstructorArgs):
    """Writes what was shown, asked, answered and earned to a folder: PNG, and JSON lines.

    ``metadata.jsonl`` has a line an episode, with the names that ``dig-env eval --out`` has:
    "coordinates", and of the turn that ended it "prompt", "answer", "reward", and of info
    "pair_seed", "stage", "format", "f1", "iou", "precision", "recall", "error", "truth", and "pair"
    where ``PairStatistics`` is inside; of ``DiG-Align-v0`` "task", "kind", "right" and "read".
    "earlier" has such turns before it, where there were any, such as zooms.

    Each image is named as the observation names it: "image_a_file_name" and "image_b_file_name",
    "zoom_file_name", or "image_file_name" and "crops_file_names". Files are below the folder;
    equal images share one. So ``datasets.load_dataset("imagefolder", data_dir=folder)`` loads it.

    An episode is there whole or not at all: its line is added after its images. A folder that
    was recorded before is added to, and several environments, in processes too, may share one.

    Args:
        env: any environment of this package, before a wrapper that changes what is seen or
            answered, such as ``NumericView``.
        folder: is made if it is missing.
        every: record the first and then every so many-th episode, at least 1.
        max_episodes: most episodes that this wrapper records, at least 1; None for no limit.

    Raises:
        TypeError: the environment is another one.
        ValueError: a number out of its range, or a folder that holds something else.
    """

    def __init__(
        self, env: gym.Env, folder: str | Path, every: int = 1, max_episodes: int | None = None
    ) -> None:
        RecordConstructorArgs.__init__(
            self, folder=str(folder), every=every, max_episodes=max_episodes
        )
        check_one(self, env, "coordinates", _IN_A_VECTOR.format("RecordPairs"))
        check_answered_in_text(self, env, env.action_space)
        seen = env.observation_space
        if not isinstance(seen, spaces.Dict) or "prompt" not in seen.spaces:
            raise TypeError(
                f"RecordPairs records prompts; the observations of {env} are {seen}: wrap with "
                "RecordPairs before what changes them"
            )
        gym.Wrapper.__init__(self, env)
        self._every = whole("every", every, 1)
        self._max_episodes = (
            None if max_episodes is None else whole("max_episodes", max_episodes, 1)
        )
        self._folder = Path(folder).absolute()  # the process may go elsewhere
        self._answered = self._recorded = 0
        _begin(self._folder)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        self._turns: list[_Turn] = []
        self._seen, info = self.env.reset(seed=seed, options=options)
        self._pair_seed = info["pair_seed"]
        return copy.deepcopy(self._seen), info

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record the episode that it ended, if it is its turn.

        Raises:
            OSError: it could not be written; nothing of it is in ``metadata.jsonl`` then.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._turns.append(_Turn(self._seen, action, float(reward), info))
        self._seen = observation
        if terminated or truncated:
            if self._answered % self._every == 0 and self._recorded != self._max_episodes:
                self._record()
                self._recorded += 1
            self._answered += 1
        return copy.deepcopy(observation), reward, terminated, truncated, info

    def _record(self) -> None:
        images: dict[str, np.ndarray] = {}
        *earlier, line = [_line(turn, self._pair_seed, images) for turn in self._turns]
        line["coordinates"] = self.env.get_wrapper_attr("coordinates")
        if earlier:
            line["earlier"] = earlier
        with locked(self._folder):
            for name, image in images.items():
                if not (self._folder / name).exists():
                    write_whole(self._folder / name, png(image))
            _append(self._folder / METADATA, json.dumps(line).encode() + b"\n")


@dataclass(frozen=True)
class _Turn:
    """What was seen, answered and earned."""

    seen: dict[str, Any]
    answer: str
    reward: float
    info: dict[str, Any]


def _line(turn: _Turn, pair_seed: int, images: dict[str, np.ndarray]) -> dict[str, Any]:
    """The turn as JSON. Its images go into ``images``, by the names of their files."""

    def file(name: str, image: np.ndarray) -> str:
        digest = sha256(image.tobytes()).hexdigest()[:16]
        path = f"{IMAGES}/{pair_seed}-{name}-{digest}.png"
        images[path] = image
        return path

    line: dict[str, Any] = {}
    for name, seen in turn.seen.items():
        if name == "crops":
            files = [file("crop", crop) for crop in seen[: turn.seen["crop_count"]]]
            line |= {"crops_file_names": files} if files else {}
        elif isinstance(seen, np.ndarray) and seen.ndim == 3 and seen.any():  # no zoom is black
            line[f"{name}_file_name"] = file(name, seen)
    line |= {"prompt": turn.seen["prompt"], "answer": turn.answer, "reward": turn.reward}
    return line | {name: turn.info[name] for name in _RECORDED if name in turn.info}


def _statistics(pair: Pair) -> dict[str, Any]:
    """See ``PairStatistics``."""
    height, width = pair.ids_a.shape
    x0, y0, x1, y1 = pair.boxes_unit.T
    differences = pair.differences
    return {
        "differences": len(differences),
        "objects": len(pair.plan.objects) + len(pair.plan.changes),
        "changes": [diff.change for diff in differences],
        "box_area": ((x1 - x0) * (y1 - y0)).tolist(),
        "visible": [max(diff.visible_a, diff.visible_b) / (width * height) for diff in differences],
        "hidden": [hidden_share(pair, diff.object_id) for diff in differences],
        "contrast": [diff.contrast for diff in differences],
    }


def _begin(folder: Path) -> None:
    """Make a folder for recordings, or check that it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    if present - {METADATA, IMAGES}:
        raise ValueError(
            f"{folder} holds {', '.join(sorted(present - {METADATA, IMAGES}))}, which RecordPairs "
            "did not write: give a new or an empty folder"
        )
    (folder / IMAGES).mkdir(exist_ok=True)


def _append(path: Path, line: bytes) -> None:
    """Add a line; call it with the folder's lock held."""
    with path.open("ab+", buffering=0) as file:
        end = file.tell()
        if end:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                # What a process that was killed left of its last line.
                end = path.read_bytes().rfind(b"\n") + 1
                file.truncate(end)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, f"could not write {path}: free some space")
        except OSError:
            file.truncate(end)
            raise
