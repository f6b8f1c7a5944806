"""Files for a cluster, in place of writing into it: those of `render`, also for nodes, guests and installations."""
