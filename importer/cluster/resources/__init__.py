"""Kubernetes objects that `apply` and `render` make from an inventory. Without I/O."""
