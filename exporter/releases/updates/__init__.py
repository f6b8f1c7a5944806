"""The update graph: answers of update services, and paths through them."""
