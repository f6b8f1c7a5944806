"""What the importer does to a cluster, and how it judges its health."""
