"""Signatures of releases: the stores, the keys, and the verification."""
