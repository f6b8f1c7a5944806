"""The archive as a read-only registry (docs/registry.md, *Serving*)."""
