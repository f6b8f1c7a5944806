"""Prune: what of a mirror no archive, cluster or stranger needs, as a plan, and its deletion (ADR 0081)."""
