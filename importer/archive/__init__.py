"""What an import does to an archive before it is used: verification, and repair from parity files."""
