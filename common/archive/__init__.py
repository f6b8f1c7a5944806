"""The archive, format version 1: what crosses the gap."""
