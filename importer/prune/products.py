"""How registries let manifests be deleted, and how they give back the space, for people. Pure.

A product is recognised by where it sends clients for tokens, or by its host; where that says nothing, all that may be are
named.
"""

from __future__ import annotations

_DOCKER = "docker-registry: stop writes, run `registry garbage-collect CONFIG`, and restart it, for it caches former content"
_ZOT = "zot: its garbage collection runs automatically (storage.gc, gcDelay, gcInterval)"
_NEXUS = "Nexus: the tasks `Docker - Delete unused manifests and images`, then `Admin - Compact blob store`"
_PRODUCTS = {
    "Quay": "Quay: automatically, after the time machine of the organization (two weeks by default)",
    "Harbor": "Harbor: Administration, Clean Up, Garbage Collection; what was pushed in the last two hours stays",
    "GitLab": "GitLab: `gitlab-ctl registry-garbage-collect`, or online garbage collection with the metadata database",
    "Artifactory": "Artifactory: its storage garbage collection, a job of the administrator, by default every four hours",
    "ACR": "Azure Container Registry: automatically",
    "ECR": "Amazon ECR: automatically",
    "Pulp": "Pulp: `pulp orphan cleanup`",
}
_SETTINGS = {
    "docker-registry": "docker-registry: storage.delete.enabled: true, or REGISTRY_STORAGE_DELETE_ENABLED=true; a pull-through "
    "cache deletes nothing",
    "ECR": "Amazon ECR: aws ecr batch-delete-image",
    "Pulp": "Pulp: pulp_container 2.30 or later; before, remove the images from the repository with its API",
}
_REALMS = {
    "/service/token": "Harbor",
    "/v2/auth": "Quay",
    "/jwt/auth": "GitLab",
    "/artifactory/": "Artifactory",
    "/oauth2/token": "ACR",
    "/token/": "Pulp",
    "/v2/token": "Pulp",
}
_HOSTS = {".amazonaws.com": "ECR", ".azurecr.io": "ACR", "quay.io": "Quay"}


def product_of(host: str, realm: str) -> str:
    """Return the product of a registry; empty where nothing says it."""
    name = host.partition(":")[0]
    known = (product for end, product in _HOSTS.items() if name.endswith(end))
    return next(known, None) or next((product for part, product in _REALMS.items() if part in realm), "")


def frees_space(product: str) -> tuple[str, ...]:
    """Return how the space of deleted content is given back."""
    return (_PRODUCTS[product],) if product in _PRODUCTS else (_DOCKER, _ZOT, _NEXUS)


def allows_deletion(product: str) -> tuple[str, ...]:
    """Return the settings that let a client delete manifests."""
    return (_SETTINGS[product],) if product in _SETTINGS else (_SETTINGS["docker-registry"],)
