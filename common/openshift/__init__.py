"""Releases of OpenShift: their numbers, those that are supported, and signatures of payloads."""
