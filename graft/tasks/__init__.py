"""What is learnt: the labels, how targets are read, the loss, the answers and the metrics of one task.

Start with `task`, the interface that steps, heads, the trainer, evaluation and serving use, then `single_label`, the
only task so far: one of several classes for each image. Everything that assumes one label per image belongs here;
nothing else in Graft may assume it.
"""
