"""The kit: the importer itself, for the other side."""
