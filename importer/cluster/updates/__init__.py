"""Updates of the cluster itself to releases that archives have brought (docs/reference/openshift-releases.md)."""
