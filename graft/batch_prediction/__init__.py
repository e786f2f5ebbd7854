"""A folder of images answered in one go: tables of predictions, whether they have drifted, and what to label next.

Start with `monitoring`, which does all three. `folder_prediction` predicts in parts, so that an interrupted run resumes
and memory stays small; `tables` puts the parts together; `drift_page` shows how the images differ from those the model
was tested on.
"""
