"""The environment over HTTP."""

TOKEN_VARIABLE = "DIG_ENV_TOKEN"
"""Where server and client look for the token."""
