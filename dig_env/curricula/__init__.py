"""Curricula: what one is, and those that ship."""
