"""Writing an archive: volumes filled from many threads, resumed after an interruption, and closed."""
