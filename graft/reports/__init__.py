"""Pages people read: the data page, the review of labels, the evaluation report, the model card.

Start with `write_evaluation`. Each page is a module beside a folder of its templates; numbers are only shown here,
never computed.
"""
