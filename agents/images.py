"""Images as parts of pages and requests."""

from __future__ import annotations

import base64


def png_url(file: bytes) -> str:
    """A PNG file as a data URL: an image that is part of the page or of the request."""
    return "data:image/png;base64," + base64.b64encode(file).decode()
