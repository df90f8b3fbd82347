"""Checks of policies and curricula of your own, as Gymnasium's ``check_env`` is of environments.

What breaks the contract raises AssertionError, with what was found and what is expected; what is
only unusual is a warning. Neither check needs Blender. ``python -O`` drops them, as it does
Gymnasium's.
"""

from dig_env.testing.curricula import check_curriculum
from dig_env.testing.policies import check_policy

__all__ = ["check_curriculum", "check_policy"]
