"""HTTP as registries speak it: transport, TLS, authentication, limits for each host, and errors.

The modules above (`client`, `upload`, `download`) know paths and documents; this room knows requests and answers.
"""
