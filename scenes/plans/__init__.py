"""From a seed to a plan: difficulties, stages, splits, and where objects stand. Pure Python."""
