"""From a folder, a manifest, an archive or a DVC version to the `ImageDataset` that all later steps read.

Start with `listing` (how a folder is read), `splits` (who trains, who tests) and `dataset` (the artifact). DVC is
imported here alone. Judging the images is the business of `quality`.
"""
