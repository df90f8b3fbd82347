"""Zoom into the regions where the images differ, then answer.

python examples/look_closer.py
"""

import gymnasium as gym
from PIL import Image

import dig_env  # noqa: F401 - registers DiG-Zoom-v0
from dig_env import parse_boxes
from dig_env.agents import PixelDiffPolicy

env = gym.make("DiG-Zoom-v0", stage="dual", turns=4, turn_cost=0.02, width=320, height=240)
observation, info = env.reset(seed=7)
(answer,) = PixelDiffPolicy().act([observation])
views, total = [], 0.0
for x0, y0, x1, y1 in parse_boxes(answer).boxes[:1]:  # in the unit frame; zooms are in thousandths
    for image in "AB":
        region = [round(1000 * value) for value in (x0, y0, x1, y1)]
        observation, reward, *_ = env.step(f"Let me see. zoom({image}, {region})")
        views.append(observation["zoom"])
        total += reward
        print(f"zoomed into {image} at {observation['region'].round(3)}: reward {reward:.2f}")
observation, reward, terminated, truncated, info = env.step(answer)
print(f"answered {answer}: reward {total + reward:.3f}, F1 {info['f1']:.2f}")

picture = Image.new("RGB", (320 * len(views), 240))
for place, view in enumerate(views):
    picture.paste(Image.fromarray(view), (320 * place, 0))
picture.save("look_closer.png")
print("what it saw: look_closer.png")
env.close()
