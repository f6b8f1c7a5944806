"""Installation of carried operators: which namespace, OperatorGroup and Subscription (or ClusterExtension), by OLM's rules."""
