"""Which images a scope covers, and which hosts a noProxy: the ways in which a cluster names registries. Pure."""

from __future__ import annotations

import ipaddress


def covers(scope: str, name: str) -> bool:
    """Say whether a scope (`*.host`, `host[:port]`, a path, an image) covers an image, or a registry's host."""
    if scope.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(scope[1:])
    return name == scope or name.startswith((f"{scope}/", f"{scope}@"))


def in_no_proxy(host: str, no_proxy: str) -> bool:
    """Say whether a host, with or without a port, is asked directly: names, `.domain`, `*`, addresses and networks."""
    name = host.rpartition(":")[0] or host
    return any(_matches(name.strip("[]"), host, entry.strip()) for entry in no_proxy.split(",") if entry.strip())


def _matches(name: str, host: str, entry: str) -> bool:
    if entry == "*" or entry in {name, host}:
        return True
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return name.endswith(f".{entry.removeprefix('*').removeprefix('.')}")
