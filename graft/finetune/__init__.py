"""Training the upper groups of a backbone: plan, trainer, cross-fitting, verdict, refit, checkpoints.

Start with `stage_plan` (which groups, how long, how fast), then `staged` (stage by stage) and `stage_selection` (what
is kept). How good the result is on test images is the business of `evaluation`; the two do not know each other.
"""
