"""The pull test: short-lived pods prove that the nodes of each pool and architecture pull carried images by their source names.

`images.py` chooses what is pulled, `groups.py` the nodes; `objects.py` builds, `looking.py` reads pods and events, `testing.py`
creates the pods, waits for the verdicts and deletes what it created.
"""
