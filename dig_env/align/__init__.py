"""Multi-scale alignment: text, coordinates and crops of the same objects, asked in every direction.

After TinyGroundingGPT (arXiv 2411.09691), whose data came from GPT-4V and GroundingDINO. Here
every image is a scene that is known exactly, so questions and answers are exact and free.
"""

from dig_env.align.grading import Grade, grade
from dig_env.align.questions import Question, Turn, write_answer
from dig_env.align.settings import AlignSettings
from dig_env.align.tasks import TASKS, pose, resolve_tasks

__all__ = [
    "TASKS",
    "AlignSettings",
    "Grade",
    "Question",
    "Turn",
    "grade",
    "pose",
    "resolve_tasks",
    "write_answer",
]
