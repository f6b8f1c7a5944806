"""The plan: which images and blobs an archive carries, and what an earlier archive or the mirror has already."""
