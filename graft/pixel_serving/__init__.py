"""From a tested model of masks or objects to one that answers: registered, packed, served, exported, over folders.

Start with `pixel_kinds`, what each kind of model can do, then `pixel_registration` for the step and `pixel_packaging`
for the files; `mask_server` runs on the server.
"""
