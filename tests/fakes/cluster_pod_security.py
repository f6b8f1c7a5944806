"""Pod Security admission: what a namespace's labels deny, and the warnings with which workloads are answered.

Sources: Kubernetes, pod-security-admission/admission/admission.go (workloads are warned of, pods are refused) and
pod-security-admission/api/helpers.go (the level that warns is the enforced one where no label says otherwise);
the words are those of pod-security-admission/policy/check_*.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Body = dict[str, Any]
_LABEL = "pod-security.kubernetes.io/"


def denial(namespace: Body, pod: Body) -> str:
    """Return why a namespace refuses a pod; empty when it takes it."""
    return _complaint("violates", _labels(namespace).get(f"{_LABEL}enforce", ""), pod)


def warning(namespace: Body, pod: Body) -> str:
    """Return the warning about a workload with such pods; empty without one."""
    labels = _labels(namespace)
    level = labels.get(f"{_LABEL}warn") or labels.get(f"{_LABEL}enforce", "")
    return _complaint("would violate", level, pod)


def _labels(namespace: Body) -> Mapping[str, str]:
    found: Mapping[str, str] = namespace["metadata"].get("labels") or {}
    return found


def _complaint(verb: str, level: str, pod: Body) -> str:
    found = list(_restricted(pod)) if level == "restricted" else list(_baseline(pod)) if level == "baseline" else []
    return f'{verb} PodSecurity "{level}:latest": {", ".join(found)}' if found else ""


def _baseline(pod: Body) -> Iterator[str]:
    """Give only what is played here: host namespaces and privileged containers."""
    if pod.get("hostNetwork"):
        yield "host namespaces (hostNetwork=true)"
    for container in pod.get("containers") or []:
        if (container.get("securityContext") or {}).get("privileged"):
            yield f'privileged (container "{container.get("name")}" must not set securityContext.privileged=true)'


def _restricted(pod: Body) -> Iterator[str]:
    yield from _baseline(pod)
    whole = pod.get("securityContext") or {}
    for container in pod.get("containers") or []:
        name, own = container.get("name"), container.get("securityContext") or {}
        if own.get("allowPrivilegeEscalation") is not False:
            must = f'container "{name}" must set securityContext.allowPrivilegeEscalation=false'
            yield f"allowPrivilegeEscalation != false ({must})"
        if "ALL" not in ((own.get("capabilities") or {}).get("drop") or []):
            yield f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
        if not (own.get("runAsNonRoot", whole.get("runAsNonRoot"))):
            yield f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)'
        profile = (own.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
        if profile not in {"RuntimeDefault", "Localhost"}:
            must = f'pod or container "{name}" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
            yield f"seccompProfile ({must})"
