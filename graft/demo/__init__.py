"""Image sets that are made from installed packages, so that everything can be tried without a network.

Start with `demo_digits`, the digits of `graft run` without a folder; `scanned_digits` are those of other writers, for
adaptation, and `task_digits` asks two questions of one digit.
"""
