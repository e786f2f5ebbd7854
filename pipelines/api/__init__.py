"""What `import graft` offers: fit, validate and doctor, and how their results look in a notebook.

`graft/__init__.py` finds them here by name, so that the library does not depend on the pipelines. Start with `fitting`,
which runs what `graft run` runs; `keywords` turns its arguments into parameters, `result` is what it returns.
"""
