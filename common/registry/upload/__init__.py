"""Uploads of blobs (distribution specification, *Pushing blobs*): presence, mounts, and the forms in which bytes are sent.

`uploader.py` decides, `presence.py` asks, `mounts.py` remembers where mounting works, `forms.py` sends,
`failing.py` remembers where retries do not help.
"""
