"""DiG's reward as EasyR1 calls it: a batch of responses, the options from its configuration.

python examples/trainers/easyr1_reward.py

A real run is the run.sh that "dig-env export --format easyr1" writes (docs/trainers.md).
"""

from dig_env import format_boxes
from dig_env.agents.integrations.easyr1 import compute_score

truth = format_boxes([[0.12, 0.3, 0.21, 0.4], [0.7, 0.1, 0.8, 0.25]], exact=True)
responses = [
    "The cube is new and the ball is gone.</think>[[120, 300, 210, 400], [700, 100, 800, 250]]",
    "Only the cube.</think>[[120, 300, 210, 400]]",
    "Perhaps [[120, 300, 210, 400], [700, 100, 800, 250]], or",  # cut off while thinking
]
inputs = [{"response": text, "response_length": 1, "ground_truth": truth} for text in responses]
for scores in compute_score(inputs, reward="full", opening="<think>"):
    print({name: round(value, 3) for name, value in scores.items()})
