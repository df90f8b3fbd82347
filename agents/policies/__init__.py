"""Policies: the protocol, reference policies, vision-language models, endpoints."""
