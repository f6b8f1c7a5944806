"""The push: blobs, manifests and tags of an archive into a mirror registry, and what the mirror has of them."""
