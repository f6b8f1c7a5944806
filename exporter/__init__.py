"""The online side: a catalog and a selection become an archive. Start reading in `workflow.py`."""
