"""Credentials in URLs are detected and masked."""

import pytest

from graft.core.credentials import holds_credentials, mask_credentials
from graft.core.errors import ParamsError
from graft.params.params import Params


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@host/x.git", "https://***@host/x.git"),
        ("cannot clone https://token@host/x.git now", "cannot clone https://***@host/x.git now"),
        ("git@host:x.git", "git@host:x.git"),
        ("/a/b@c", "/a/b@c"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("https://user:secret@host/x.git", True),
        ("HTTPS://token@host/x.git", True),
        ("ssh://user:secret@host/x.git", True),
        ("ssh://git@host/x.git", False),
        ("git@host:x.git", False),
        ("https://host/a@b.git", False),
        ("../repo", False),
    ],
)
def test_holds_credentials(url: str, holds: bool) -> None:
    assert holds_credentials(url) is holds


def test_a_repository_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ParamsError) as caught:
        Params.load(overrides=["get_data.repo=https://user:secret@host/x.git"])
    assert "get_data.repo='https://***@host/x.git': holds credentials" in str(caught.value)
    assert "secret" not in str(caught.value)
