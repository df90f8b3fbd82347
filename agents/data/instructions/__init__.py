"""Instruction data for the alignment tasks."""
