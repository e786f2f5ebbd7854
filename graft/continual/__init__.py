"""Learning over time: new images and classes are added to a model, and nothing that it knew is lost unnoticed.

Start with `class_statistics` (the sums that stand for every image learnt so far) and `exam` (the held-out features that
every later model is examined on), then `state` (the files beside a bundle that hold both), `update` (what one update
does, with heads from `closed_form` that follow from the sums alone), `forgetting` (what was lost) and `guard` (whether
that may go into use). Only this wing reads and writes these files. It does not know `finetune` and `evaluation`, nor
they it.
"""
