"""The archive as a read-only registry (docs/reference/registry.md, *Serving*)."""
