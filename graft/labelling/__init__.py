"""What to label next: of many images without labels, the few that teach the model most.

Start with `choice` (which images, and why), which chooses from a `pool` (what the model says of each, its features on
disk). `to_label` writes the choice as a queue for `relabel` and as a page on which a person decides.
"""
