import pytest

from graft.web.served_model import abstention_reason

UNLIKE = "Unlike the training images: its score is 1.50, and the limit is 1"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"label": "bee"}, ""),
        ({"abstain": False, "set": ["bee"], "ood": 0.4}, ""),
        (
            {"abstain": True, "set": ["bee"], "ood": 1.5},
            UNLIKE,
        ),
        ({"abstain": True, "set": [], "ood": 0.4}, "No label is plausible enough"),
        ({"abstain": True, "set": ["a", "b", "c"], "ood": 0.4}, "3 labels are plausible: a, b and c"),
        ({"abstain": True, "set": ["bee"], "ood": 0.4}, "Only bee is plausible, and the answer is another label"),
    ],
)
def test_the_reason_is_said_in_words(answer: dict[str, object], reason: str) -> None:
    assert abstention_reason(answer) == reason
