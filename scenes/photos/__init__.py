"""Pairs made of photographs: objects with masks are recoloured, removed, pasted and replaced."""
