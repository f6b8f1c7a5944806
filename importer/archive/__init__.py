"""Reading an archive: its blobs and manifests, verification, and repair from parity files."""
