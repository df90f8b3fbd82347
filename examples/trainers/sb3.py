"""PPO of Stable-Baselines3 on the numeric view: images as one array, a box as four numbers.

python examples/trainers/sb3.py

A few updates, to show how it fits together; reproduce/sb3_ppo.py trains on until it finds the
differences.
"""

import gymnasium as gym
from stable_baselines3 import PPO

from dig_env import NumericVectorView
from dig_env.agents import evaluate_stored
from dig_env.agents.integrations.sb3 import SB3Policy, SB3Vector
from dig_env.scenes import RenderSettings, render_dataset

settings = RenderSettings(width=128, height=96, quality="draft")
render_dataset("runs/sb3", {"single": 50}, "train", settings)
render_dataset("runs/sb3", {"single": 20}, "test", settings)

# Without the dataset the pairs are fresh, and one Blender process renders them for all.
envs = gym.make_vec("DiG-v0", 8, dataset="runs/sb3", reward="dense", autoreset_mode="Disabled")
view = NumericVectorView(envs, shape=(48, 64))
model = PPO("CnnPolicy", SB3Vector(view), n_steps=16, batch_size=64, n_epochs=2, seed=0)
model.learn(total_timesteps=512)
envs.close()
report = evaluate_stored(SB3Policy(model, view), "runs/sb3", split="test")
print(f"reward {report.reward:.3f}, F1 {report.f1:.3f} on {len(report.episodes)} test pairs")
