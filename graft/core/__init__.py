"""General tools that do not depend on images or models: errors, atomic files, digests, the cache, tables, progress.

A file belongs here if an unrelated project could use it unchanged; anything that knows about datasets, models or
pipeline steps belongs in a later wing. Start with `errors` and `atomic`: every other wing uses them.
"""
