"""Wrappers: a curriculum, the numeric view, recording."""
