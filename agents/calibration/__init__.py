"""The calibration card: known answers and simple policies against the reward."""
