"""A curriculum of your own: up a stage after three successes in a row, down after three failures.

python examples/custom_curriculum.py
"""

import gymnasium as gym

from dig_env import BaseCurriculum, CurriculumWrapper
from dig_env.agents import PixelDiffPolicy


class Ladder(BaseCurriculum):
    """Three rewards in a row decide, since the last change of stage."""

    kind = "ladder"

    def __init__(self, stages, success_at=0.7):
        super().__init__(stages, window=3)
        self.success_at = success_at

    def update(self, reward, stage=None):
        self.count(reward)
        if len(self.rewards) < self.window:
            return None
        wins = [past >= self.success_at for past in self.rewards]
        step = all(wins) - (not any(wins))
        return self.enter(min(max(self.index + step, 0), len(self.stages) - 1))


curriculum = Ladder(("single", "dual", "mixed"))
env = CurriculumWrapper(gym.make("DiG-v0", width=128, height=96, quality="draft"), curriculum)
policy = PixelDiffPolicy()

for episode in range(20):
    observation, info = env.reset(seed=0 if episode == 0 else None)
    (answer,) = policy.act([observation])
    _, reward, _, _, _ = env.step(answer)
    print(f"{info['stage']:6} reward {reward:.2f}")
for count, left, entered in curriculum.history:
    print(f"after {count} episodes: {left} to {entered}")
env.close()
