"""Pretrained networks as ordered chains of groups, and the features they give.

Start with `backbone`, then `partition` (how a network is cut into groups) and `feature_store` (what extraction
leaves). Training a backbone is the business of `finetune`.
"""
