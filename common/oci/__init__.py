"""The OCI image model: types and references between them, without any I/O."""
