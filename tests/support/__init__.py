"""Helpers for several test files: tiny data and models, servers on loopback, a browser."""
