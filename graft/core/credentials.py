"""Credentials in URLs: detect them to refuse them, mask them to keep them out of messages and records."""

import re

_USER_INFO = re.compile(r"(\w://)[^/@\s]*@")
# A user name alone is harmless with ssh (git@host); with http it may be a token.
_SECRET = re.compile(r"https?://[^/@\s]+@|\w://[^/@\s:]*:[^/@\s]+@", re.IGNORECASE)


def holds_credentials(url: str) -> bool:
    """Return whether a URL contains a password or a token."""
    return _SECRET.search(url) is not None


def mask_credentials(text: str) -> str:
    """Return `text` with the user name and password of every URL in it replaced by ***."""
    return _USER_INFO.sub(r"\1***@", text)
