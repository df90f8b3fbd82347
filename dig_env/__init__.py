"""The game: spot the difference as a Gymnasium environment with a structured reward.

Importing this package registers the environments, so that ``gym.make("DiG-v0")`` works.
"""

import gymnasium as gym

from dig_env.adaptive import AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay
from dig_env.answers import ParsedAnswer, format_boxes, parse_boxes
from dig_env.curricula import RandomCurriculum, ScheduledCurriculum
from dig_env.curriculum import Curriculum, StageCurriculum
from dig_env.drawing import draw_pair
from dig_env.env import DiGEnv
from dig_env.frames import COORDINATES, resized_size
from dig_env.numeric import NumericVectorView, NumericView
from dig_env.observation import instruction, observe
from dig_env.recording import PairStatistics, RecordPairs
from dig_env.reward import PARTS, Score, score, score_batch
from dig_env.reward_config import REWARDS, RewardConfig, RewardLike, resolve_reward
from dig_env.wrappers import CurriculumWrapper, VectorCurriculumWrapper
from scenes.version import __version__

__all__ = [
    "COORDINATES",
    "PARTS",
    "REWARDS",
    "AdaptiveDifficulty",
    "Curriculum",
    "CurriculumWrapper",
    "DiGEnv",
    "LearningProgress",
    "NumericVectorView",
    "NumericView",
    "PairStatistics",
    "ParsedAnswer",
    "PrioritizedStageReplay",
    "RandomCurriculum",
    "RecordPairs",
    "RewardConfig",
    "RewardLike",
    "ScheduledCurriculum",
    "Score",
    "StageCurriculum",
    "VectorCurriculumWrapper",
    "__version__",
    "draw_pair",
    "format_boxes",
    "instruction",
    "observe",
    "parse_boxes",
    "resized_size",
    "resolve_reward",
    "score",
    "score_batch",
]

for _id, _stage in {
    "DiG-v0": "single",
    "DiG-Single-v0": "single",
    "DiG-Dual-v0": "dual",
    "DiG-Mixed-v0": "mixed",
}.items():
    gym.register(
        _id,
        entry_point="dig_env.env:DiGEnv",
        vector_entry_point="dig_env.vector:DiGVectorEnv",
        kwargs={"stage": _stage},
    )

gym.register("DiG-Remote-v0", entry_point="dig_env.remote:DiGRemoteEnv")
gym.register("DiG-Zoom-v0", entry_point="dig_env.zoom:DiGZoomEnv")
gym.register("DiG-Align-v0", entry_point="dig_env.align.env:DiGAlignEnv")
