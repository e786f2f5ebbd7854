"""From a folder, a manifest, an archive or a DVC version to the `ImageDataset` that all later steps read.

Start with `listing` (how a folder is read), `splits` (which images are for training and which for testing) and
`dataset` (the artifact). DVC is imported only here. Checking the images is the job of `quality`.
"""
