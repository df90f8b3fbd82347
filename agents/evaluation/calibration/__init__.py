"""The calibration card: the reward of answers of known quality."""
