"""Tasks for tests."""

from graft.tasks.single_label import SingleLabel


def of_labels(*labels: str) -> SingleLabel:
    """Which of these an image shows."""
    return SingleLabel(labels=labels)


def of_classes(number: int) -> SingleLabel:
    """One of so many classes for each image."""
    return of_labels(*(f"c{index}" for index in range(number)))
