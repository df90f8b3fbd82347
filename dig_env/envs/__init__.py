"""The environments, and where their pairs come from."""
