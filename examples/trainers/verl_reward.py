"""DiG's reward as verl calls it: one response, the options from its configuration.

python examples/trainers/verl_reward.py

A real run is the run.sh that "dig-env export --format verl" writes (docs/trainers.md).
"""

from dig_env import format_boxes
from dig_env.agents.integrations.verl import compute_score

truth = format_boxes([[0.12, 0.3, 0.21, 0.4], [0.7, 0.1, 0.8, 0.25]], exact=True)
for response in (
    "The cube is new and the ball is gone.</think>[[120, 300, 210, 400], [700, 100, 800, 250]]",
    "Only the cube.</think>[[120, 300, 210, 400]]",
    "Perhaps [[120, 300, 210, 400], [700, 100, 800, 250]], or",  # cut off while thinking
):
    scores = compute_score("dig", response, truth, reward="dense", opening="<think>")
    print({name: round(value, 3) for name, value in scores.items()})
