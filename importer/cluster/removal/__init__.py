"""What `undo` has to know before it takes an installation back: what OLM brought with it, and whether a namespace is empty."""
