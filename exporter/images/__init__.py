"""Images: tags resolved to digests, indexes followed, signatures found, and images built from layers."""
