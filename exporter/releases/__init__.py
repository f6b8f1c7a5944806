"""OpenShift and OKD releases: the update graph, selection, payloads, signatures and graph data."""
