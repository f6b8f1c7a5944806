"""Rules of OLM that both programs apply: names of catalogs, paths through the update graph, templates of CatalogSources."""
