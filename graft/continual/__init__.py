"""Learning over time: new images and classes are added to a model, and nothing that it knew is lost unnoticed.

Start with `class_statistics` (the sums that stand for every image learnt so far) and `exam` (the held-out features that
every later model is examined on), then `state` (the files beside a bundle that hold both), `closed_form` (heads that
follow from the sums alone) and `forgetting` (what was lost). Only this wing reads and writes these files. It does not
know `finetune` and `evaluation`, nor they it.
"""
