"""The commands of `graft`, one file per group; `pipelines/cli.py` puts them together.

A command reads its options, calls what does the work, and prints. Heavy imports are inside the functions, so that help
and the message about a mistake appear at once.
"""
