import pytest

from graft.core.errors import DataError, GraftError, error_text


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "part \0IHDR", "\x1b[31mred"])
def test_what_a_file_brings_into_a_message_stays_in_its_line(text: str) -> None:
    found = str(GraftError(f"{text}: damaged"))
    assert found.isprintable()
    assert found.endswith(": damaged")


def test_a_password_is_in_no_message() -> None:
    url = "https://user:s3cret@host/x.zip"
    assert "s3cret" not in str(DataError(f"{url}: not found"))
    assert "s3cret" not in error_text(OSError(f"{url}: not found"))
