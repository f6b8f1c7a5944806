"""Command lines of both programs: groups of options, exit codes, results, and the command `login`.

The only rooms that know typer are this one, `exporter.cli` and `importer.cli`.
"""
