"""The page of a deploy: the content that was pushed, the changes of the cluster, and the final state."""
