"""The ``dig-env`` command."""
