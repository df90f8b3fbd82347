"""DiG-Zoom-v0 at a tiny size, an answer, and requests to look closer."""

import json

import gymnasium as gym

from dig_env.scenes import RenderSettings

WIDTH, HEIGHT = SIZE = 64, 48
TINY = RenderSettings(WIDTH, HEIGHT, "draft", "cpu")
ANSWER = "[[400, 250, 600, 750]]"
ASK = "zoom(A, [500, 500, 750, 750])"
ASK_B = ASK.replace("A", "B")
CALL = {"name": "zoom", "arguments": {"image": "A", "bbox_2d": [500, 500, 750, 750]}}


def tool_call(**changes):
    return f"<tool_call>\n{json.dumps(CALL | changes)}\n</tool_call>"


def make(folder, **settings):
    return gym.make("DiG-Zoom-v0", dataset=str(folder), stage="dual", **settings)
