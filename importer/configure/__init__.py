"""The cluster steps of an import: plan, apply, undo, and render as files (docs/reference/cluster.md)."""
