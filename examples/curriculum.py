"""A curriculum around the environment: promoted from single to dual to mixed differences.

python examples/curriculum.py
"""

import gymnasium as gym

from agents import PixelDiffPolicy
from dig_env import Curriculum, CurriculumWrapper

curriculum = Curriculum(stages=("single", "dual", "mixed"), promote_at=0.7, window=8)
env = CurriculumWrapper(gym.make("DiG-v0", width=128, height=96, quality="draft"), curriculum)
policy = PixelDiffPolicy()

for episode in range(30):
    observation, info = env.reset(seed=0 if episode == 0 else None)
    (answer,) = policy.act([observation])
    _, reward, _, _, _ = env.step(answer)
    mean = "-" if curriculum.mean is None else f"{curriculum.mean:.2f}"
    print(f"{info['stage']:6} reward {reward:.2f}, window mean {mean}")
for count, left, entered in curriculum.history:
    print(f"after {count} episodes: {left} to {entered}")
env.close()
