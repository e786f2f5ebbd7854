"""Adaptation without target labels beside other methods, into docs/adaptation.md: python -m benchmarks.adaptation.

`domains` computes the features of every domain once, `cases` makes sources and targets of them, `methods` adapts by
every method, `cost` measures time and memory, `tables` writes the page. Every method sees the same features, and none
sees a label of the target.
"""
