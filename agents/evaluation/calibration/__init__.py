"""The calibration card: what the reward is worth to answers that are known."""
