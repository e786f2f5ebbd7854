"""Credentials in URLs: detect them to refuse them, mask them to keep them out of messages and records.

One rule for every parameter (`params.section.Section`) and every message (`GraftError`, the error file, MLflow).
"""

import re

_HIDDEN = "***"
# The last @ before a slash ends the user's name and password; a password may hold an @ of its own, or a slash.
_USER_INFO = re.compile(r"(\w://)(?:[^/\s]*@|[^/@\s:]*:(?!\d+/)[^@\s]*@)")
# A user name alone is harmless with ssh (git@host); with http it may be a token.
_SECRET = re.compile(r"https?://[^/@\s]+@|\w://[^/@\s:]*:(?!\d+/)[^@\s]+@", re.IGNORECASE)
_NAMES = (
    "access_?token|auth|token|password|passwd|pwd|secret|client_?secret|api_?key|key|sig|signature|awsaccesskeyid|"
    "x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)"
)
_QUERY = re.compile(rf"(\w://[^\s?]*\?(?:[^\s&]*&)*?(?:{_NAMES})=)([^\s&'\"]+)", re.IGNORECASE)


def holds_credentials(url: str) -> bool:
    """Return whether a URL contains a password or a token, before its host or in its query."""
    return _SECRET.search(url) is not None or _QUERY.search(url) is not None


def mask_credentials(text: str) -> str:
    """Return `text` with the user name and password of every URL in it, and the secrets in queries, replaced by ***."""
    masked = _USER_INFO.sub(rf"\1{_HIDDEN}@", text)
    while (found := _QUERY.sub(lambda match: match[1] + _HIDDEN, masked)) != masked and _unmasked(found):
        masked = found
    return found


def _unmasked(text: str) -> bool:
    return any(match[2] != _HIDDEN for match in _QUERY.finditer(text))
