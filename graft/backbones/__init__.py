"""Pretrained networks as ordered chains of groups, and the extraction of their features.

Start with `backbone`, then `partition` (how a network is cut into groups) and `feature_store` (the artifact with the
extracted features). Backbones are only run here; `finetune` trains them.
"""
