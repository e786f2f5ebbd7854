"""How fast and how right Graft is beside its peers, measured side by side on one machine."""
