"""The disconnected side: an archive becomes a mirror and a cluster with operators. Start reading in `workflow.py`."""
