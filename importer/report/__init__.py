"""The page that a deploy leaves: what was pushed and applied, and the state it ended in."""
