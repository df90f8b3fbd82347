"""Who plays the alignment tasks: policies, evaluation, and instruction data to learn from."""
