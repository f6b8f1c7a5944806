"""Software bills of materials (SBOM) that an archive carries: found, opened and read. What they state is not verified."""
