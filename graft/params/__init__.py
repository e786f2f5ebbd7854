"""The sections of `params.yaml` as types: a file a step, read, overridden and checked.

Start with `params`, which holds all sections; the file of a section has the name of its step. `overrides` reads
`params.yaml` and the command line, `checking` turns what is wrong into one line, and `run_settings` has what is said
for a whole run: a preset and a budget.
"""
