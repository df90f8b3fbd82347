"""PPO of Stable-Baselines3 on the numeric view: images as one array, a box as four numbers.

python examples/sb3.py

A few updates, to show how it fits together; sb3_ppo.py trains until it finds the differences.
"""

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import evaluate_stored
from agents.adapters.sb3 import PairsInMemory, SB3Policy
from dig_env import NumericView
from scenes import RenderSettings, render_dataset

settings = RenderSettings(width=128, height=96, quality="draft")
render_dataset("runs/sb3", {"single": 50}, "train", settings)
render_dataset("runs/sb3", {"single": 20}, "test", settings)
pairs = PairsInMemory("runs/sb3", "train")


def make():
    return NumericView(gym.make("DiG-v0", dataset=pairs, reward="dense"), shape=(48, 64))


model = PPO("CnnPolicy", DummyVecEnv([make] * 8), n_steps=16, batch_size=64, n_epochs=2, seed=0)
model.learn(total_timesteps=512)
report = evaluate_stored(SB3Policy(model, make()), "runs/sb3", split="test")
print(f"reward {report.reward:.3f}, F1 {report.f1:.3f} on {len(report.episodes)} test pairs")
