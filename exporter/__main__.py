"""`python -m exporter` is hub-export."""

from exporter.cli import main

main()
