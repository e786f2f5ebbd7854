"""HTML pages and documents: the data page, the label review, the evaluation report, the model card.

Start with `write_evaluation`. Each page is a module beside a folder with its templates. This wing displays numbers and
never computes them.
"""
