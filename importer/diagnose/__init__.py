"""Diagnosis of a cluster: a snapshot, the rules that find causes in it, and the fixes of `doctor --fix`."""
