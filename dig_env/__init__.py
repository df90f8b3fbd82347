"""The game: spot the difference as a Gymnasium environment with a structured reward.

Importing this package registers the environments, so that ``gym.make("DiG-v0")`` works.
"""

import gymnasium as gym

from dig_env.answers import ParsedAnswer, format_boxes, parse_boxes
from dig_env.curricula.adaptive import AdaptiveDifficulty, LearningProgress, PrioritizedStageReplay
from dig_env.curricula.schedules import EasyToHard, RandomCurriculum, ScheduledCurriculum
from dig_env.curricula.threshold import BaseCurriculum, Curriculum, StageCurriculum
from dig_env.drawing import draw_pair
from dig_env.envs.dig import DiGEnv
from dig_env.frames import COORDINATES, resized_size
from dig_env.observation import instruction, observe, odd_one_out
from dig_env.reward import PARTS, Score, score, score_batch
from dig_env.reward_config import REWARDS, RewardConfig, RewardLike, resolve_reward
from dig_env.scenes.version import __version__
from dig_env.wrappers.curriculum import CurriculumWrapper, VectorCurriculumWrapper
from dig_env.wrappers.numeric import NumericVectorView, NumericView
from dig_env.wrappers.recording import PairStatistics, RecordPairs

__all__ = [
    "COORDINATES",
    "PARTS",
    "REWARDS",
    "AdaptiveDifficulty",
    "BaseCurriculum",
    "Curriculum",
    "CurriculumWrapper",
    "DiGEnv",
    "EasyToHard",
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
    "odd_one_out",
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
        entry_point="dig_env.envs.dig:DiGEnv",
        vector_entry_point="dig_env.envs.vector:DiGVectorEnv",
        kwargs={"stage": _stage},
    )

gym.register("DiG-Remote-v0", entry_point="dig_env.envs.remote:DiGRemoteEnv")
gym.register("DiG-Zoom-v0", entry_point="dig_env.envs.zoom:DiGZoomEnv")
gym.register("DiG-Align-v0", entry_point="dig_env.envs.align:DiGAlignEnv")
