"""The Kubernetes API of a cluster: the client, what it serves, who asks, and its warnings."""
