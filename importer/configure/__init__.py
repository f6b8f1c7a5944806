"""The cluster steps of an import: plan, apply, undo, and render as files (docs/cluster.md)."""
