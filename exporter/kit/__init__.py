"""Kits: the importer with its dependencies, for hosts without a network. Start in making.py."""
