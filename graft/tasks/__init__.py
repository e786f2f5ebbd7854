"""What is learnt: the labels, how targets are read, the loss, the answers and the metrics of one task.

Start with `task`, the interface that steps, heads, the trainer, evaluation and serving use, then `single_label`, the
only task so far: one of several classes for each image. Nothing else in Graft assumes that an image has one label.
"""
