"""What every model about pixels shares: maps of a backbone at several resolutions, and a head that reads them.

Start with `levels` (which maps a backbone has), then `network` (what is trained and what stays as it is), `stages` (how
upper groups are unfrozen and judged), and `dense_bundle`, the model as one artifact.
"""
