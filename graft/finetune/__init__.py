"""Training the upper groups of a backbone: a plan, then stage by stage, each kept only if it helps.

Start with `staged`; to follow a stage from plan to verdict, read in this order:

- `staged`: the overview, top down: plan, inputs, stages, refit, abstention;
- `racing`: which stage is tried, and which one gets the complete training; `budget`: what it may cost;
- `stage_plan`, `training_settings`: what is trained when, and how (pure rules);
- `image_views`, `stage_inputs`: which images a stage sees, and what it reads of them;
- `stage_trial`: one stage; `cross_fitting` trains its folds, `wise_ft` may go back part of the way, `stage_verdict`
  judges it;
- `refit`: the kept stages are trained again, with the validation images.

The loop that trains is in `training`. Measuring the result on test images belongs in `evaluation`; neither wing imports
the other.
"""
