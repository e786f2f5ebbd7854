"""The model server and its pages: a picture dropped on a page, or sent by a program, and the model's answer.

Start with `app`, which puts the server together: MLflow's scoring endpoints as they are, beside them `api` (pictures in
any common form, explanations, corrections) and the pages, and around all of them `access` (request ids, token, limits,
counts). `starting` takes the port, loads the model and announces the server once it listens. Nothing is loaded from
another host.
"""
