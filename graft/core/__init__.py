"""Plain tools that know nothing of images or models: errors, atomic files, digests, the cache, tables, progress.

A file belongs here if a project about something else could use it as it is. Start with `errors` and `atomic`: every
other wing stands on them.
"""
