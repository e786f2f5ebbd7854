"""Graft: from a folder of labelled images to a validated, tested, registered classifier by transfer learning."""
