"""Readers of catalogs: file-based, SQLite, package manifests, and the places that hold them.

Each reader returns `exporter.catalog.model.Catalog`; `opening` chooses the reader.
"""
