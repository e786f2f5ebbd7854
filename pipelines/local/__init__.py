"""One run on this machine: KFP's subprocess or Docker runner, and the table at its end."""
