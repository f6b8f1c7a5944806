"""Diagnosis of a cluster, for `status`, `doctor`, and the wait of `apply`.

`collect.py` reads the cluster once into a `Snapshot` (`snapshot.py`); the rules of `rules.py` turn the snapshot into findings,
without I/O; `fixes.py` has the change that `doctor --fix` makes for a finding's code; `health.py` puts them together. Rules
about Subscriptions are in `resolution.py`, about pods that wait for images in `pulls.py`, about operators that are not
installed in `installing.py`.

To add a symptom, for example a new message of CRI-O about a pull: add a row with its code, pattern, cause and fix to `PULLS` in
`symptoms.py`, the code to the table of docs/reference/cluster.md (*status and doctor*), and a story that the fake cluster
plays to tests/data/stories. A symptom that is no text of a pod becomes a function in `RULES` of `rules.py`; the objects that
it needs become a field of `Snapshot`, filled by `collect.py`. A safe fix becomes an entry in `FIXES` of `fixes.py`.
"""
