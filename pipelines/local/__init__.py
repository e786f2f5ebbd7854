"""Run the pipeline on this machine with KFP's subprocess or Docker runner, and print a summary."""
