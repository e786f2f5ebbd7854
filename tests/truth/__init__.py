"""What Graft's pages promise, held against simulations whose answer is known: one file per promise.

Each file states `PROMISES` in the words of the page and says what was simulated; `test_promises.py` holds them all, and
`python -m tests.truth.table` writes the table in docs/evaluation.md.
"""
