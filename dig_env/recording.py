"""Wrappers that keep what was played: pairs on disk, and statistics of each pair in its info."""

from __future__ import annotations

import errno
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from dig_env.drawing import png
from dig_env.env import DiGEnv
from dig_env.reward import PARTS
from scenes import Pair
from scenes.files import locked, write_whole
from scenes.occlusion import hidden_share
from scenes.whole import whole

METADATA, IMAGES = "metadata.jsonl", "images"
"""What ``RecordPairs`` writes; Hugging Face's "imagefolder" wants the first name."""

_RECORDED = ("pair_seed", "stage", *PARTS, "error", "truth", "pair")


class PairStatistics(gym.Wrapper, RecordConstructorArgs):
    """Adds what the pair was like to the info of its answer, as ``info["pair"]``.

    Nothing is added before the answer, since all of it is about the truth. The lists have one
    entry a difference, in the order of ``info["truth"]``:

    - "differences", "objects": how many there are; objects of either image count.
    - "changes": "color", "shape", "size", "material", "add" or "delete".
    - "box_area": of the true box, as a fraction of the image.
    - "visible": the changed object's pixels as a fraction of the image, in the image that shows
      more of it.
    - "hidden": the part of its silhouette that other objects cover; ``scenes.occlusion``.
    - "contrast": mean CIE Lab distance (CIE76) between the images over its pixels.

    Args:
        env: a ``DiG-v0`` environment, wrapped or not. For a vector of them, give
            ``gym.make_vec(..., vectorization_mode="sync", wrappers=[PairStatistics])``.

    Raises:
        TypeError: the environment is another one.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, _checked(self, env))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and add the statistics once the episode is over."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            pair = cast(DiGEnv, self.unwrapped).pair
            info = info | {"pair": _statistics(pair)}
        return observation, reward, terminated, truncated, info


class RecordPairs(gym.Wrapper, RecordConstructorArgs):
    """Writes answered pairs to a folder: the images as PNG, and a line of JSON an answer.

    ``metadata.jsonl`` has the names that ``dig-env eval --out`` has: "coordinates", "answer",
    "reward" (of the step that ended the episode), and of info "pair_seed", "stage", "format", "f1",
    "iou", "precision", "recall", "error", "truth", and "pair" where ``PairStatistics`` lies inside.
    "image_a_file_name" and "image_b_file_name" lie below the folder; answers to the same images
    share the files. So ``datasets.load_dataset("imagefolder", data_dir=folder)`` loads it all.

    An episode is there whole or not at all: its line is added after its images. A folder that
    was recorded before is added to, and several environments, in processes too, may share one.

    Args:
        env: a ``DiG-v0`` environment, answered in text: wrap it before ``NumericView``.
        folder: is made if it is missing.
        every: record the first and then every so many-th answer, at least 1.
        most: record at most so many answers by this wrapper, at least 1; None for no limit.

    Raises:
        TypeError: the environment is another one.
        ValueError: a number out of its range, or a folder that holds something else.
    """

    def __init__(
        self, env: gym.Env, folder: str | Path, every: int = 1, most: int | None = None
    ) -> None:
        RecordConstructorArgs.__init__(self, folder=str(folder), every=every, most=most)
        gym.Wrapper.__init__(self, _checked(self, env))
        if not isinstance(env.action_space, spaces.Text):
            raise TypeError(
                f"RecordPairs records answers in text; the actions of {env} are "
                f"{env.action_space}: wrap with RecordPairs first"
            )
        self._every = whole("every", every, 1)
        self._most = None if most is None else whole("most", most, 1)
        self._folder = Path(folder).absolute()  # the process may go elsewhere
        self._answered = self._recorded = 0
        _begin(self._folder)

    def step(self, action: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and record the answer that ended the episode, if it is its turn.

        Raises:
            OSError: it could not be written; nothing of it is in ``metadata.jsonl`` then.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            if self._answered % self._every == 0 and self._recorded != self._most:
                self._record(action, float(reward), info)
                self._recorded += 1
            self._answered += 1
        return observation, reward, terminated, truncated, info

    def _record(self, answer: str, reward: float, info: dict[str, Any]) -> None:
        env = cast(DiGEnv, self.unwrapped)
        pair = env.pair
        digest = sha256(pair.image_a.tobytes() + pair.image_b.tobytes()).hexdigest()[:16]
        images = {
            f"{IMAGES}/{pair.plan.seed}-{digest}-a.png": pair.image_a,
            f"{IMAGES}/{pair.plan.seed}-{digest}-b.png": pair.image_b,
        }
        image_a, image_b = images
        line: dict[str, Any] = {"image_a_file_name": image_a, "image_b_file_name": image_b}
        line |= {"coordinates": env.coordinates, "answer": answer, "reward": reward}
        line |= {name: info[name] for name in _RECORDED if name in info}
        with locked(self._folder):
            for name, image in images.items():
                if not (self._folder / name).exists():
                    write_whole(self._folder / name, png(image))
            _append(self._folder / METADATA, json.dumps(line).encode() + b"\n")


def _checked(wrapper: gym.Wrapper, env: gym.Env) -> gym.Env:
    """The environment, if its pairs can be looked at."""
    if not isinstance(env, gym.Env) or not isinstance(env.unwrapped, DiGEnv):
        name = type(wrapper).__name__
        raise TypeError(
            f"{name} wraps DiG-v0, not {env}; for a vector of environments give "
            f'gym.make_vec(..., vectorization_mode="sync", wrappers=[{name}])'
        )
    return env


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
