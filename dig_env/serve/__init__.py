"""The environment over HTTP."""
