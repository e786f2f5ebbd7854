"""What is learnt: the labels, how targets are read, the loss, the answers and the metrics of one task.

Start with `task`, the interface that steps, heads, the trainer, evaluation and serving use. Each kind of task has a
file of its own: `single_label`, one of several classes for each image, and `tags`, any number of labels; `kinds` knows
them by name. `columns` makes tasks of a table's columns. Everything that assumes one label per image belongs in
`single_label`; nothing else in Graft may assume it.
"""
