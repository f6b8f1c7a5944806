"""Pages for people: what the report of an archive and the report of a deploy have in common."""
