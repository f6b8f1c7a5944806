"""`python -m importer` is hub-import."""

from importer.cli import main

main()
