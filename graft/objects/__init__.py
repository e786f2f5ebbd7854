"""Objects of photos with a mask each: how they are coded, annotated, kept in the dataset and scored. NumPy alone.

Start with `run_length` (a mask as text), then `instance` (one object), `coco` (annotation files and results),
`object_dataset`, the artifact that every later step reads, and `average_precision`, what answers are worth.
"""
