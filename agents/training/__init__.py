"""Training: GRPO on pairs, and the supervised stages of alignment."""
