"""Credentials inside URLs: found, so that they are refused, and hidden, so that no message or record repeats them."""

import re

_USER_INFO = re.compile(r"(\w://)[^/@\s]*@")
# A user name alone is harmless with ssh (git@host); with http it may be a token.
_SECRET = re.compile(r"https?://[^/@\s]+@|\w://[^/@\s:]*:[^/@\s]+@", re.IGNORECASE)


def holds_credentials(url: str) -> bool:
    """Tell whether a URL carries a password or a token."""
    return _SECRET.search(url) is not None


def hidden(text: str) -> str:
    """Return `text` with user name and password of every URL in it replaced by ***."""
    return _USER_INFO.sub(r"\1***@", text)
