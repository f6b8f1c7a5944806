"""The Kubernetes API as the rest of the importer sees it: objects in and out as builtins, refusals as ClusterErrors.

Owns the connection, the tries and the words for what went wrong; knows no kind better than another.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from lightkube import Client, KubeConfig, SingleConfig
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource
from lightkube.types import PatchType

from common.errors import ClusterError, HubError, UsageError
from common.log import SECRETS, logger
from common.registry.http.tls import proxy_for, proxy_parts
from common.retry import RetryPolicy, retry
from common.serialization import load_yaml_documents
from common.tls import client_context, trusting
from importer.cluster.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

# What the API server's refusals become: one class per thing that a caller can do about it. Pure.

_NO_CREDENTIALS, _FORBIDDEN, _CONFLICT = 401, 403, 409
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
_LONGEST = 600


class UnavailableError(ClusterError):
    """No answer, or one that says to come back: worth another try."""


class ForbiddenError(ClusterError):
    """The cluster knows who we are, and does not let us."""


class ConflictError(ClusterError):
    """Somebody else wrote first, or owns the field. `fields`: (manager, field) pairs, empty for a mere race."""

    def __init__(self, message: str, *, hint: str = "", fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked of which server, for the message."""

    verb: str
    kind: Kind
    subject: str
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the `Status` object that came with it; empty when there was none."""

    status: int
    document: Mapping[str, Any]


def refusal(answer: Answer, attempt: Attempt) -> ClusterError:
    """Return the error for an answer that is none of success."""
    said = str(answer.document.get("message") or f"HTTP {answer.status}")[:_LONGEST]
    status, verb, subject = answer.status, attempt.verb, attempt.subject
    if status == _NO_CREDENTIALS:
        return ClusterError(
            f"{attempt.server} does not accept the credentials",
            hint="Log in again (oc login), or give another --kubeconfig or --context.",
        )
    if status == _FORBIDDEN:
        return ForbiddenError(
            f"not allowed to {verb} {attempt.kind.path} ({subject}): {said}",
            hint="Ask an administrator for that permission; `hub-import render --rbac` writes all that are needed.",
        )
    if status == _CONFLICT:
        return ConflictError(
            f"{subject}: {said}",
            hint="Something else keeps changing it; apply again when that is quiet.",
            fields=_owned(answer.document),
        )
    if status in _PASSING:
        return UnavailableError(f"cannot {verb} {subject} now: {said}", hint="The API server is busy or restarting; try again.")
    return ClusterError(f"cannot {verb} {subject}: {said}", hint="The answer is the cluster's own; `oc describe` tells more.")


def _owned(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Read the causes of a server-side apply conflict: `conflict with "manager" using v1: .spec.image`."""
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return tuple(
        (str(cause.get("message", "")).partition('"')[2].partition('"')[0], str(cause.get("field", "")))
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("reason") == "FieldManagerConflict"
    )


FIELD_MANAGER = "hub-import"
Body = dict[str, Any]

_LOG = logger(__name__)
_TIMEOUT_S = httpx.Timeout(60.0, connect=10.0)  # an API server that lists ten thousand packages takes its time
_POLICY = RetryPolicy(tries=4, within_s=60.0, longest_s=8.0)
_EVERYWHERE = "*"  # the client library's word for all namespaces
_NOT_FOUND = 404
_MAX_KUBECONFIG = 4 * 1024 * 1024
_VERBS = ["get", "list", "global_list", "patch", "post", "put", "delete"]
_LOG_OF_POD = Kind("", "v1", "PodLog", "pods/log", namespaced=True)
T = TypeVar("T")


def connect(kubeconfig: Path | None, context: str | None) -> ClusterClient:
    """Return a client for the cluster of a kubeconfig's context.

    Without `kubeconfig`: the service account when running in a pod, else `$KUBECONFIG`, else ~/.kube/config. Nothing is
    contacted yet. Raises UsageError for a configuration that is not there or cannot be understood.
    """
    try:
        config = _load(kubeconfig) if kubeconfig else _found()
        chosen = config.get(context)
        assert chosen is not None
        return ClusterClient(chosen)
    except (ConfigError, httpx.InvalidURL, KeyError, TypeError, AttributeError, ValueError, OSError) as error:
        where = kubeconfig or f"$KUBECONFIG or {DEFAULT_KUBECONFIG}"
        raise UsageError(
            f"no cluster to talk to from {where}: {_why(error)}",
            hint="Give --kubeconfig FILE and, when it has several clusters, --context NAME.",
        ) from error


def _why(error: BaseException) -> str:
    """Say what is wrong with a kubeconfig: where the library stumbles over its shape, its words help nobody."""
    if isinstance(error, httpx.InvalidURL):  # its text has parts of the URL
        return "the address of its server, or of the proxy, is no URL (it may hold a password and is not shown)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is no kubeconfig" if isinstance(error, (AttributeError, KeyError, TypeError)) else _first_line(error)


class ClusterClient:
    """One cluster. Objects are plain dictionaries: `get` gives what the server sent, writes give what is there afterwards."""

    def __init__(self, config: SingleConfig) -> None:
        config = config._replace(user=config.user or User())
        assert config.user is not None
        for secret in (config.user.token, config.user.password):
            SECRETS.add(secret or "")
        self.server, self._base = _shown(config.cluster.server), config.cluster.server
        # What --context takes; None for the service account of a pod, which the library gives a name that nobody chose.
        self.context = config.context_name if config.fname is not None else None
        self._user, self._transport = config.user, _transport(config, config.user)
        self._client = Client(config, timeout=_TIMEOUT_S, field_manager=FIELD_MANAGER, transport=self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()
        if "_plain" in self.__dict__:
            self._plain.close()

    @cached_property
    def _plain(self) -> httpx.Client:
        """The same connections and credentials, for requests that the library does not make."""
        return httpx.Client(base_url=self._base, auth=user_auth(self._user), transport=self._transport, timeout=_TIMEOUT_S)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Body | None:
        """Return an object; None when it, or its kind, does not exist. Raises ClusterError."""
        return self._absent_is_none(
            "get", kind, f"{kind.name} {name}", lambda: dict(self._client.get(_model(kind), name, namespace=namespace or None))
        )

    def list(self, kind: Kind, namespace: str = "", labels: Mapping[str, str] | None = None) -> list[Body] | None:
        """Return the objects of a kind with all `labels`; None when the cluster has no such kind. Raises ClusterError.

        Without `namespace`, those of all namespaces.
        """
        place = (namespace or _EVERYWHERE) if kind.namespaced else None

        def ask() -> list[Body]:
            found = self._client.list(_model(kind), namespace=place, labels=dict(labels or {}))
            return [dict(each) for each in found]

        return self._absent_is_none("list", kind, kind.plural, ask)

    def create(self, kind: Kind, body: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Create an object. Raises ConflictError when it exists meanwhile, ClusterError."""
        made = _model(kind)(body)
        namespace = _namespace(body)
        return self._do("create", kind, body, lambda: self._client.create(made, namespace=namespace, dry_run=dry_run))

    def review(self, kind: Kind, body: Mapping[str, Any]) -> Body:
        """Ask a question that is put as an object and never kept, such as an access review. Raises ClusterError."""
        return dict(self._tried("create", kind, kind.name, lambda: self._client.create(_model(kind)(body))))

    def merge_patch(self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Change the fields that `patch` has. Raises ConflictError when its resourceVersion is an old one, ClusterError."""
        subject = {"metadata": {"name": name, "namespace": namespace}}
        return self._patch(kind, subject, patch, PatchType.MERGE, dry_run=dry_run)

    def apply(self, kind: Kind, body: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Body:
        """Apply on the server's side: `body` is all that we want to own. Raises ConflictError with the others' fields."""
        return self._patch(kind, body, body, PatchType.APPLY, force=force, dry_run=dry_run)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, only: Mapping[str, str] | None = None) -> None:
        """Delete an object; one that is gone already is fine. `only`: the preconditions of meta/v1 DeleteOptions.

        Raises ConflictError when a precondition is not met, ClusterError.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **({"preconditions": dict(only)} if only else {})}

        def ask() -> None:  # the library's own `delete` has no preconditions
            self._plain.request("DELETE", _path(kind, name, namespace), json=options).raise_for_status()

        self._absent_is_none("delete", kind, f"{kind.name} {name}", ask)

    def log(self, pod: str, namespace: str, container: str, *, lines: int = 50) -> str:
        """Return the last lines of a container's log, the former run's while it waits to be started again.

        Empty when there is none. Raises ClusterError.
        """

        def ask() -> str:
            found = self._client.log(pod, namespace=namespace, container=container, tail_lines=lines, newlines=False)
            return "\n".join(islice(found, lines))

        return self._absent_is_none("get", _LOG_OF_POD, f"log of {pod}", ask) or ""

    def _patch(self, kind: Kind, subject: Mapping[str, Any], patch: Mapping[str, Any], how: PatchType, **options: Any) -> Body:
        name, namespace = subject["metadata"]["name"], _namespace(subject)
        return self._do(
            "patch",
            kind,
            subject,
            lambda: self._client.patch(_model(kind), name, dict(patch), namespace=namespace, patch_type=how, **options),
        )

    def _do(self, verb: str, kind: Kind, subject: Mapping[str, Any], request: Callable[[], Any]) -> Body:
        name = f"{kind.name} {subject['metadata']['name']}"
        return dict(self._tried(verb, kind, name, request))

    def _absent_is_none(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T | None:
        try:
            return self._tried(verb, kind, subject, request)
        except _AbsentError:
            return None

    def _tried(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T:
        """Ask up to four times. Every request here may be repeated: a write that went through is found to be there."""
        return retry(lambda: self._once(verb, kind, subject, request), _POLICY, on=UnavailableError)

    def _once(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T:
        _LOG.debug("%s %s", verb, subject)
        try:
            return request()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == _NOT_FOUND:
                raise _AbsentError(f"cannot {verb} {subject}: the cluster has none", hint="Is the kind installed?") from error
            raise refusal(_answer(error.response), Attempt(verb, kind, subject, self.server)) from error
        except httpx.TransportError as error:
            raise _unreachable(self.server, error) from error
        except ConfigError as error:
            raise ClusterError(
                f"no credentials for {self.server}: {_first_line(error)}",
                hint="Use a kubeconfig with a token or a certificate.",
            ) from error
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ClusterError(
                f"{self.server} answers {verb} {subject} with something else than the Kubernetes API does",
                hint="Is that address an API server, or a proxy before it?",
            ) from error


class _Transport(httpx.HTTPTransport):
    """The connections to a cluster. lightkube copies its parameters with dataclasses.asdict, which no context survives."""

    def __deepcopy__(self, _memo: object) -> Self:
        return self


def _transport(config: SingleConfig, user: User) -> _Transport:
    """Return the connections to a cluster: what its kubeconfig trusts, verified as by kubectl, through the usual proxies."""
    context = trusting(verify_cluster(config.cluster, user, config.abs_file))
    server = httpx.URL(config.cluster.server)
    address = proxy_for(os.environ, server.scheme, server.netloc.decode())
    if address is None:
        return _Transport(verify=context)
    SECRETS.add(proxy_parts(address).password or "")
    return _Transport(verify=context, proxy=httpx.Proxy(address, ssl_context=client_context()))


class _AbsentError(ClusterError):
    """No such object, or no such kind; the API gives both the same status."""


def _found() -> KubeConfig:
    """Return the service account's configuration, else that of a file, in the order of `KubeConfig.from_env`.

    The library would read the file with a YAML reader of its own, with other errors.
    """
    try:
        return KubeConfig.from_service_account()
    except ConfigError:
        return _load(Path(os.environ.get("KUBECONFIG") or DEFAULT_KUBECONFIG))


def _load(path: Path) -> KubeConfig:
    path = path.expanduser()
    with path.open("rb") as file:
        raw = file.read(_MAX_KUBECONFIG + 1)
    if len(raw) > _MAX_KUBECONFIG:
        raise ValueError(f"larger than {_MAX_KUBECONFIG} bytes")
    try:
        documents = list(load_yaml_documents(raw, str(path), forgiving=True))
    except HubError as error:
        raise ValueError(error.message) from error
    return KubeConfig.from_dict(documents[0] if documents else {}, fname=path)


@cache
def _model(kind: Kind) -> Any:
    """Return the client library's class for a kind. It registers nothing: two clients may see different clusters."""
    base = GenericNamespacedResource if kind.namespaced else GenericGlobalResource
    info = ApiInfo(resource=ResourceDef(kind.group, kind.version, kind.name), plural=kind.plural, verbs=_VERBS)
    return type(kind.name, (base,), {"_api_info": info})


def unchanged(live: Body) -> dict[str, str]:
    """Return the preconditions that let a write through only while an object is what was read."""
    return {name: str(live["metadata"][name]) for name in ("uid", "resourceVersion")}


def _path(kind: Kind, name: str, namespace: str) -> str:
    place = f"namespaces/{namespace}/" if namespace else ""
    return f"/{'apis' if kind.group else 'api'}/{kind.api_version}/{place}{kind.plural}/{name}"


def _shown(server: str) -> str:
    """Return the address of a server as it may be shown: without user, password, query and fragment."""
    plain = server.partition("#")[0].partition("?")[0]
    scheme, mark, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else plain.rpartition("@")[2]


def _namespace(body: Mapping[str, Any]) -> str | None:
    return body["metadata"].get("namespace") or None


def _answer(response: httpx.Response) -> Answer:
    try:
        document = response.json()
    except ValueError:
        document = None
    return Answer(response.status_code, document if isinstance(document, dict) else {})


def _unreachable(server: str, error: httpx.TransportError) -> ClusterError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ClusterError(
                f"the certificate of {server} is not trusted: {cause.verify_message}",
                hint="Put the cluster's CA into the kubeconfig (certificate-authority-data).",
            )
        cause = cause.__cause__ or cause.__context__
    return UnavailableError(
        f"cannot reach {server}: {_first_line(error)}", hint="Check the address in the kubeconfig, the route and the proxy."
    )


def _first_line(error: BaseException) -> str:
    return SECRETS.mask((str(error) or type(error).__name__).partition("\n")[0][:300])
