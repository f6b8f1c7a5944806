"""The operators that a cluster has: reads them, says what an import does to each, and keeps their catalogs."""
