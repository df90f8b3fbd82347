"""One episode of DiG-v0: render a fresh pair, answer it, see the reward and the truth.

python examples/first_episode.py
"""

import gymnasium as gym
from PIL import Image

import dig_env  # noqa: F401 - registers DiG-v0

env = gym.make("DiG-v0", stage="dual", width=320, height=240, render_mode="rgb_array")
observation, info = env.reset(seed=7)
print(observation["prompt"])
print(info)

observation, reward, terminated, truncated, info = env.step("[[120, 300, 210, 400]]")
print(f"reward {reward:.3f}, F1 {info['f1']:.2f}, IoU {info['iou']:.2f}")
for difference in info["truth"]:
    print(difference["change"], difference["box"])

Image.fromarray(env.render()).save("first_episode.png")
print("picture: first_episode.png")
env.close()
