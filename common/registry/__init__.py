"""The registry client; the only home of httpx."""
