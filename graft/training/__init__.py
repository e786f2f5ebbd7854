"""The training loop: a classifier is trained through one stage, on one process or several, and can be interrupted.

Start with `trainer`: it takes a `stage` (what is trained, for how long, how fast), `settings` and `labelled_images`,
and trains one epoch at a time; `freezing` says which parameters move, `objective` what is minimised and what counts as
correct, `trainable_state` which tensors change, `prediction` what the model answers now. `checkpoints` lets an
interrupted training go on with bit-identical results; `distributed` and `sync_batchnorm` are all that knows of several
processes. Which stages there are and whether one is kept belongs in `finetune`.
"""
