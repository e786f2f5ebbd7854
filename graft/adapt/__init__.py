"""Other domains: a model adapts to images that nobody has labelled, or is left alone, and says why.

Start with `adaptation` (from a model and unlabelled images to a verdict) and `view_heads` (the method). A view of the
target is its features under one set of statistics: `standardisation` matches the features themselves,
`models.batch_norm` the network's BatchNorm, for which training keeps a head of its own (`models.renormed_head`). In
each, `prototypes` answer for the labels and the head is refitted to them. `guards` decide without labels whether the
result replaces the model, `label_check` with some. `comparisons` holds other methods by name, to compare with.
"""
