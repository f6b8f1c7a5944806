"""Reading, choosing from, and writing operator catalogs."""
