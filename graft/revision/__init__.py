"""From a model in the registry to its next version without training anew: adapted, updated, or made to forget.

Start with `domain_adaptation` (to a folder of unlabelled images), `target_domains` (to those of a training run),
`examination` and `update_registration` (new labelled images) or `unlearning` (images to forget). The methods are in
`adapt` and `continual`; here they meet the registry.
"""
