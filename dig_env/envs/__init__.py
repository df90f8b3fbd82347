"""The environments, and where their pairs come from."""

TOKEN_VARIABLE = "DIG_ENV_TOKEN"
"""Where the server and its client, ``DiG-Remote-v0``, look for the token."""
