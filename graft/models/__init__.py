"""A trained model as one artifact: backbone, head, labels, transform, temperature and thresholds.

Start with `bundle`, then `bundle_spec` (what its record contains), `fit_head` (which makes the first bundle) and
`export` (which writes it for other runtimes). Training the backbone belongs in `finetune`, measuring a model in
`evaluation`.
"""
