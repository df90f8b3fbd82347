"""Evaluation: held-out pairs, alignment tasks, outside difference sets, the calibration card."""
