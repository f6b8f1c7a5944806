"""Readiness: what a cluster is expected to serve after `apply`, and the wait for it."""
