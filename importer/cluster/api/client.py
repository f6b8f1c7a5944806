"""Client of the Kubernetes API: objects in and out as builtins, failures as ClusterErrors, with retries.

It is generic over kinds. lightkube makes the requests; its errors and those of httpx do not leave this module.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import ssl
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

import httpx
from lightkube import Client, KubeConfig, SingleConfig
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import DEFAULT_KUBECONFIG
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError
from lightkube.core.resource import ApiInfo, ResourceDef
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource
from lightkube.operators import not_exists, not_in
from lightkube.types import PatchType

from common.errors import ClusterError, UsageError
from common.log import SECRETS
from common.registry.http.tls import proxy_for, proxy_way
from common.registry.settings import RegistrySettings
from common.retry import RetryPolicy, retry
from common.text import enumeration, sanitize
from common.tls import Proxy, Server, explained, presented, trusting
from importer.cluster.api import kubeconfig as kubeconfig_files
from importer.cluster.api.server_warnings import WarningLog
from importer.cluster.api.transport import OutOfBoundsError, Transport
from importer.cluster.kinds import Kind
from importer.cluster.shape import checked, undecoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType


T = TypeVar("T")

# Errors of the API server: one class for each reaction of a caller.

_NO_CREDENTIALS, _FORBIDDEN, _CONFLICT = 401, 403, 409
# Statuses of a load balancer in front of the API server, of priority and fairness (429), or of etcd during a leader election.
# 410 is the next page of a list whose first one is older than etcd keeps, five minutes: it is read again (Kubernetes API
# concepts, *Retrieving large results sets in chunks*).
_PASSING = frozenset((408, 410, 429, 500, 502, 503, 504))
# A validation error repeats the rejected object.
_LONGEST = 600


class UnavailableError(ClusterError):
    """No answer, or a status that may pass: the request can be retried."""


class NoClusterError(UsageError):
    """No kubeconfig, or one from which no cluster can be chosen."""


class ForbiddenError(ClusterError):
    """The account lacks a permission."""


class ConflictError(ClusterError):
    """Another client wrote first, or owns a field. `fields`: (manager, field) pairs, empty for a race."""

    def __init__(self, message: str, *, hint: str = "", fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Query:
    """What `scan` reads: at most `most` objects with the values of `fields`, without those of `unlike` and a label `absent`.

    `content` False: of the fields, only those of the metadata have to be as documented.
    """

    most: int
    namespace: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    unlike: tuple[tuple[str, tuple[str, ...]], ...] = ()
    absent: str = ""
    page: int = 500  # objects of one answer, as kubectl has it (--chunk-size)
    content: bool = True


@dataclass(frozen=True, slots=True)
class Scanned(Generic[T]):
    """What `scan` kept; `whole` False: there are objects that were not read."""

    found: list[T]
    whole: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request and its server, for messages."""

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
    """Return the error for an unsuccessful answer."""
    message = str(answer.document.get("message") or f"HTTP {answer.status}")[:_LONGEST]
    status, verb, subject = answer.status, attempt.verb, attempt.subject
    if status == _NO_CREDENTIALS:
        return ClusterError(
            f"{attempt.server} does not accept the credentials",
            hint="Log in again (oc login), or give another --kubeconfig or --context.",
        )
    if status == _FORBIDDEN:
        return ForbiddenError(
            f"not allowed to {verb} {attempt.kind.path} ({subject}): {message}",
            hint="Ask an administrator for that permission; `hub-import render --rbac` writes all that are needed: rbac.yaml, "
            "and rbac-doctor-fix.yaml for what only `doctor --fix` does.",
        )
    if status == _CONFLICT:
        return ConflictError(
            f"{subject}: {message}",
            hint="Another client keeps changing it; apply again when it has stopped.",
            # Only a conflict of server-side apply has causes.
            fields=_owned(answer.document),
        )
    if status in _PASSING:
        return UnavailableError(
            f"cannot {verb} {subject} now: {message}", hint="The API server is busy or restarting; try again."
        )
    return ClusterError(
        f"cannot {verb} {subject}: {message}", hint="The message is the cluster's own; `oc describe` shows more."
    )


def _owned(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Read the causes of a server-side apply conflict: `conflict with "manager" using v1: .spec.image`."""
    # An intermediary may answer with any JSON, so each level is checked.
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return tuple(
        (str(cause.get("message", "")).partition('"')[2].partition('"')[0], str(cause.get("field", "")))
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("reason") == "FieldManagerConflict"
    )


FIELD_MANAGER = "hub-import"
Body = dict[str, Any]

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = httpx.Timeout(60.0, connect=10.0)  # listing ten thousand packages takes an API server some time
_POLICY = RetryPolicy(tries=4, within_s=60.0, longest_s=8.0)
# A write that lost a race reads the object again and repeats at once; five other writers in a row are not a race.
CONFLICT_POLICY = RetryPolicy(tries=5, first_s=0.0)
_EVERYWHERE = "*"  # all namespaces, for lightkube
_NOT_FOUND = 404
_SHOWN = 10  # contexts in a message
_VERBS = ["get", "list", "global_list", "patch", "post", "put", "delete"]
_VERSION = Kind("", "v1", "Version", "version", namespaced=False)  # for messages: /version is no resource
_DISCOVERY = Kind("", "v1", "APIResourceList", "apiresources", namespaced=False)
_LONGEST_VERSION = 80
_LOG_OF_POD = Kind("", "v1", "PodLog", "pods/log", namespaced=True)


def connect(kubeconfig: Path | None, context: str | None) -> ClusterClient:
    """Return a client for the cluster of a kubeconfig's context.

    Without `kubeconfig`: the files of `$KUBECONFIG`, else ~/.kube/config, else the service account when running in a pod, in
    the order of kubectl. No request is made yet. Raises UsageError for a configuration that is missing or invalid.
    """
    contexts: list[str] = []
    try:
        config = _load(kubeconfig) if kubeconfig else _found()
        contexts = sorted(map(str, config.contexts))
        chosen = config.get(context)
        assert chosen is not None
        return ClusterClient(chosen)
    # RuntimeError: `~` of an account without a home (pathlib, Path.expanduser).
    except (ConfigError, httpx.InvalidURL, KeyError, TypeError, AttributeError, ValueError, OSError, RuntimeError) as error:
        named = kubeconfig_files.in_variable(os.environ) and getattr(error, "filename", None)
        where = kubeconfig or (f"{named} of $KUBECONFIG" if named else f"$KUBECONFIG or {DEFAULT_KUBECONFIG}")
        raise NoClusterError(
            f"no cluster to talk to from {where}: {_why(error)}",
            hint="Give --kubeconfig FILE and, when it has several clusters, --context NAME."
            + (f" It has: {enumeration(contexts, _SHOWN)}." if contexts else ""),
        ) from error


def _why(error: BaseException) -> str:
    """Return the defect of a kubeconfig, for a message."""
    if isinstance(error, httpx.InvalidURL):  # its text has parts of the URL
        return "the address of its server, or of the proxy, is no URL (it may hold a password and is not shown)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # The messages of these types are about lightkube's own code.
    return "it is no kubeconfig" if isinstance(error, (AttributeError, KeyError, TypeError)) else _first_line(error)


class ClusterClient:
    """Client of one cluster. Objects are plain dictionaries, as the server sent them; writes return the new state."""

    def __init__(self, config: SingleConfig) -> None:
        # A kubeconfig without a user is valid: a proxy on localhost authenticates.
        config = config._replace(user=config.user or User())
        assert config.user is not None
        for secret in (config.user.token, config.user.password):
            SECRETS.add(secret or "")
        self.server, self._base = _shown(config.cluster.server), config.cluster.server
        # The value of --context; None for the service account of a pod, for which lightkube makes up a name.
        self.context = config.context_name if config.fname is not None else None
        self._user = config.user
        self.warnings = WarningLog()
        self._transport, self._peer = _transport(config, config.user, self.server, self.warnings)
        self._client = Client(config, timeout=_TIMEOUT_S, field_manager=FIELD_MANAGER, transport=self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()
        if "_plain" in self.__dict__:
            self._plain.close()

    @cached_property
    def _plain(self) -> httpx.Client:
        """A client with the same connections and credentials, for requests that lightkube does not offer."""
        return httpx.Client(base_url=self._base, auth=user_auth(self._user), transport=self._transport, timeout=_TIMEOUT_S)

    def get(self, kind: Kind, name: str, namespace: str = "") -> Body | None:
        """Return an object; None when it, or its kind, does not exist. Raises ClusterError."""
        return self._absent_is_none(
            "get",
            kind,
            f"{kind.name} {name}",
            lambda: checked(self._client.get(_model(kind), name, namespace=namespace or None)),
        )

    def reduce(
        self, kind: Kind, keep: Callable[[Body], T], namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> list[T] | None:
        """Return what `keep` makes of each object of a list; None when the cluster has no such kind. Raises ClusterError.

        Of a list that the server gives whole, one object at a time is decoded: package-server knows no pages
        (operator-lifecycle-manager, pkg/package-server/storage/reststorage.go, List).
        """
        query = {"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())} if labels else {}

        def ask() -> list[T]:
            kept: list[T] = []
            page: dict[str, str] = {}
            while True:
                answer = self._plain.get(_path(kind, "", namespace), params={**query, **page})
                answer.raise_for_status()
                listed = undecoded(answer.content)
                kept += [keep(checked(json.loads(bytes(each)))) for each in listed.items or ()]
                if not (more := (listed.metadata or {}).get("continue")):
                    return kept
                page = {"continue": str(more)}

        return self._absent_is_none("list", kind, kind.plural, ask)

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        absent: str = "",
        content: bool = True,
    ) -> list[Body] | None:
        """Return the objects of a kind with all `labels`, and without the label `absent`.

        None when the cluster has no such kind. Without `namespace`, those of all namespaces. `content` False: of the fields,
        only those of the metadata have to be as documented. Raises ClusterError.
        """
        selector: dict[str, Any] = {**(labels or {}), **({absent: not_exists()} if absent else {})}
        # lightkube takes None for the namespace of the context, and refuses a namespace for a kind without.
        where = (namespace or _EVERYWHERE) if kind.namespaced else None

        def ask() -> list[Body]:
            found = self._client.list(_model(kind), namespace=where, labels=selector)
            return [checked(each, content=content) for each in found]

        return self._absent_is_none("list", kind, kind.plural, ask)

    def scan(self, kind: Kind, keep: Callable[[Body], T | None], query: Query) -> Scanned[T] | None:
        """Read a list page by page, and return what `keep` makes of its objects, without its None.

        None when the cluster has no such kind. Raises ClusterError.
        """
        where = (query.namespace or _EVERYWHERE) if kind.namespaced else None
        fields: dict[str, Any] = {**dict(query.fields), **{name: not_in(values) for name, values in query.unlike}}
        labels: dict[str, Any] = {query.absent: not_exists()} if query.absent else {}

        def ask() -> Scanned[T]:
            found = self._client.list(_model(kind), namespace=where, chunk_size=query.page, labels=labels, fields=fields)
            kept = [keep(checked(each, content=query.content)) for each in islice(found, query.most)]
            # One more is asked for: a list that ends with the last object that is read is whole.
            return Scanned([each for each in kept if each is not None], whole=next(iter(found), None) is None)

        return self._absent_is_none("list", kind, kind.plural, ask)

    def create(self, kind: Kind, body: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Create an object. Raises ConflictError when it exists meanwhile, ClusterError."""
        made = _model(kind)(body)
        namespace = _namespace(body)
        return self._do("create", kind, body, lambda: self._client.create(made, namespace=namespace, dry_run=dry_run))

    def review(self, kind: Kind, body: Mapping[str, Any]) -> Body:
        """Return the answer to an object that is not stored, such as a SelfSubjectAccessReview. Raises ClusterError."""
        return self._tried("create", kind, kind.name, lambda: checked(self._client.create(_model(kind)(body)), named=False))

    def merge_patch(self, kind: Kind, name: str, namespace: str, patch: Mapping[str, Any], *, dry_run: bool = False) -> Body:
        """Change the fields that `patch` has. Raises ConflictError when its resourceVersion is an old one, ClusterError."""
        subject = {"metadata": {"name": name, "namespace": namespace}}
        return self._patch(kind, subject, patch, PatchType.MERGE, dry_run=dry_run)

    def apply(self, kind: Kind, body: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Body:
        """Apply an object on the server's side; `body` has all fields to own. Raises ConflictError with the foreign fields."""
        return self._patch(kind, body, body, PatchType.APPLY, force=force, dry_run=dry_run)

    def delete(self, kind: Kind, name: str, namespace: str = "", *, only: Mapping[str, str] | None = None) -> None:
        """Delete an object, if it exists. `only`: the preconditions of meta/v1 DeleteOptions.

        Raises ConflictError when a precondition is not met, ClusterError.
        """
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **({"preconditions": dict(only)} if only else {})}

        def ask() -> None:  # lightkube's `delete` has no preconditions
            self._plain.request("DELETE", _path(kind, name, namespace), json=options).raise_for_status()

        self._absent_is_none("delete", kind, f"{kind.name} {name}", ask)

    def log(self, pod: str, namespace: str, container: str, *, lines: int = 50) -> str:
        """Return the last lines of a container's log; empty when there is none. Raises ClusterError."""

        def ask() -> str:
            found = self._client.log(pod, namespace=namespace, container=container, tail_lines=lines, newlines=False)
            return "\n".join(islice(found, lines))

        return self._absent_is_none("get", _LOG_OF_POD, f"log of {pod}", ask) or ""

    def version(self) -> str:
        """Return the version of Kubernetes that the server reports, such as v1.31.2; empty where it does not.

        Raises UnavailableError.
        """

        def ask() -> str:
            answer = self._plain.get("version")  # `system:public-info-viewer` of Kubernetes allows it to every account
            answer.raise_for_status()
            return str(answer.json()["gitVersion"])[:_LONGEST_VERSION]

        try:
            return self._absent_is_none("get", _VERSION, "version", ask) or ""
        except UnavailableError:
            raise
        except ClusterError:
            return ""

    def document(self, path: str) -> dict[str, Any]:
        """Return what the server says of itself at a path, such as its groups at /apis. Raises ClusterError."""

        def ask() -> dict[str, Any]:
            # `system:discovery` of Kubernetes allows it to every account that is authenticated.
            answer = self._plain.get(path)
            answer.raise_for_status()
            found = answer.json()
            if not isinstance(found, dict):
                raise TypeError(path)
            return found

        return self._tried("get", _DISCOVERY, path, ask)

    def serves(self, kind: Kind) -> bool:
        """Say whether the API server serves a kind, by its discovery. Raises ClusterError."""

        def ask() -> bool:
            answer = self._plain.get(f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}")
            answer.raise_for_status()
            return any(each["name"] == kind.plural for each in answer.json()["resources"])

        return self._absent_is_none("get", kind, f"discovery of {kind.path}", ask) or False

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
        return self._tried(verb, kind, name, lambda: checked(request()))

    def _absent_is_none(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T | None:
        try:
            return self._tried(verb, kind, subject, request)
        except _AbsentError:
            return None

    def _tried(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T:
        # Every request here may be repeated: a write whose answer was lost finds its result on the server.
        return retry(lambda: self._once(verb, kind, subject, request), _POLICY, on=UnavailableError)

    def _once(self, verb: str, kind: Kind, subject: str, request: Callable[[], T]) -> T:
        _LOG.debug("%s %s", verb, subject)
        try:
            return request()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == _NOT_FOUND:
                # The API gives the same status for a missing object and for a kind that is not installed.
                raise _AbsentError(f"cannot {verb} {subject}: not found", hint="Is the kind installed?") from error
            raise refusal(_answer(error.response), Attempt(verb, kind, subject, self.server)) from error
        except httpx.TransportError as error:
            raise _unreachable(self._peer, error) from error
        except ConfigError as error:
            raise ClusterError(
                f"no credentials for {self.server}: {_first_line(error)}",
                hint="Use a kubeconfig with a token or a certificate.",
            ) from error
        except OSError as error:  # of the program that the kubeconfig runs for a token, or of the file with one
            raise ClusterError(
                f"no credentials for {self.server}: {error.filename or 'the kubeconfig'}: {error.strerror or error}",
                hint="Install the program that the kubeconfig runs for a token, or use one with a token or a certificate.",
            ) from error
        # What lightkube raises for JSON of another shape, and `checked` and `Transport` for what is out of bounds.
        except (
            KeyError,
            ValueError,
            TypeError,
            AttributeError,
            RecursionError,
            httpx.DecodingError,
            httpx.InvalidURL,
        ) as error:
            why = f": {_first_line(error)}" if isinstance(error, OutOfBoundsError) else ""
            raise ClusterError(
                f"{self.server} does not answer {verb} {subject} as the Kubernetes API does{why}",
                hint="Is that address an API server, or a proxy in front of it?",
            ) from error


class _Peer(NamedTuple):
    """The API server and the way to it, for messages. `given`: the kubeconfig, where it names a CA."""

    url: str
    shown: str
    proxy: Proxy | None
    given: tuple[Path, ...]
    proxy_given: tuple[Path, ...] = ()


def _transport(config: SingleConfig, user: User, shown: str, warnings: WarningLog) -> tuple[Transport, _Peer]:
    """Return the connections to a cluster: its kubeconfig's CA, verified as by kubectl, and the proxy of the environment."""
    context = trusting(verify_cluster(config.cluster, user, config.abs_file))
    server = httpx.URL(config.cluster.server)
    cluster = config.cluster
    given = (Path(config.fname),) if config.fname and (cluster.certificate_auth or cluster.certificate_auth_data) else ()
    address = proxy_for(os.environ, server.scheme, server.netloc.decode())
    if address is None:
        return Transport(verify=context, warned=warnings.hear), _Peer(cluster.server, shown, None, given)
    way, trust = proxy_way(address, RegistrySettings(environ=os.environ))
    if way.context is not None and given:  # net/http of Go verifies an https:// proxy with the same authorities as the server
        file, data = cluster.certificate_auth, cluster.certificate_auth_data
        if file:
            way.context.load_verify_locations(cafile=config.abs_file(file))
        else:
            way.context.load_verify_locations(cadata=base64.b64decode(data or "").decode("ascii", "replace"))
    peer = _Peer(cluster.server, shown, way, given, (*given, *trust.authorities))
    proxy = httpx.Proxy(address, ssl_context=way.context)
    return Transport(verify=context, proxy=proxy, warned=warnings.hear), peer


class _AbsentError(ClusterError):
    """The object or its kind does not exist."""


def _found() -> KubeConfig:
    """Return the configuration of the files of the environment, else that of a pod's service account."""
    # Not `KubeConfig.from_env`: it takes the service account first. A job that runs in one cluster for another one, with
    # $KUBECONFIG, would change the cluster that it runs in, while `oc` in the same job talks to the other one.
    default = Path(DEFAULT_KUBECONFIG)
    if not (paths := kubeconfig_files.files(os.environ, default)):
        try:
            return KubeConfig.from_service_account()
        except ConfigError:
            return _load(default)
    if len(paths) == 1:
        return _load(paths[0])
    documents = ((path, kubeconfig_files.document(path)) for path in paths)
    return KubeConfig.from_dict(kubeconfig_files.merged(documents), fname=paths[0])


def _load(path: Path) -> KubeConfig:
    path = path.expanduser()
    return KubeConfig.from_dict(kubeconfig_files.document(path), fname=path)


@cache
def _model(kind: Kind) -> Any:
    """Return lightkube's class for a kind, without registering it: two clients may see different clusters."""
    base = GenericNamespacedResource if kind.namespaced else GenericGlobalResource
    info = ApiInfo(resource=ResourceDef(kind.group, kind.version, kind.name), plural=kind.plural, verbs=_VERBS)
    return type(kind.name, (base,), {"_api_info": info})


def unchanged(live: Body) -> dict[str, str]:
    """Return the preconditions of a write that is refused once the object was changed or recreated."""
    return {name: str(live["metadata"][name]) for name in ("uid", "resourceVersion")}


def versioned(patch: Mapping[str, Any], live: Body) -> dict[str, Any]:
    """Return a merge patch that is refused with 409 once the object was changed since `live` was read."""
    version = {"resourceVersion": live["metadata"]["resourceVersion"]}
    return {**patch, "metadata": {**patch.get("metadata", {}), **version}}


def _path(kind: Kind, name: str, namespace: str) -> str:
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"/{'apis' if kind.group else 'api'}/{kind.api_version}/{where}{kind.plural}{f'/{name}' if name else ''}"


def _shown(server: str) -> str:
    """Return the address of a server without user, password, query and fragment, for messages."""
    plain = server.partition("#")[0].partition("?")[0]
    scheme, mark, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else plain.rpartition("@")[2]
    return sanitize(shown, _LONGEST)


def _namespace(body: Mapping[str, Any]) -> str | None:
    return body["metadata"].get("namespace") or None


def _answer(response: httpx.Response) -> Answer:
    try:
        document = response.json()
    except ValueError:
        document = None
    return Answer(response.status_code, document if isinstance(document, dict) else {})


def _unreachable(peer: _Peer, error: httpx.TransportError) -> ClusterError:
    # httpx wraps the error of ssl two or three times, by version.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(peer, cause)
        cause = cause.__cause__ or cause.__context__
    return UnavailableError(
        f"cannot reach {peer.shown}: {_first_line(error)}", hint="Check the address in the kubeconfig, the route and the proxy."
    )


def _untrusted(peer: _Peer, error: ssl.SSLCertVerificationError) -> ClusterError:
    """Return the error for a refused certificate: the API server's, or that of the HTTPS proxy, which httpx reports alike."""
    seen = presented(peer.url, peer.proxy)
    add, proxy = "to the kubeconfig (certificate-authority-data)", peer.proxy
    if seen is None and proxy and proxy.context and (seen := presented(proxy.url)):
        at = proxy.url.partition("//")[2]
        add = f"as certs.d/{at}/ca.crt, or {add}"
        server = Server(f"the certificate of the proxy {at}", at, add, peer.proxy_given, "Check HTTPS_PROXY and NO_PROXY.")
    else:
        where = httpx.URL(peer.url)
        at = where.netloc.decode() if where.port else f"{where.netloc.decode()}:443"
        server = Server(
            f"the certificate of {peer.shown}", at, add, peer.given, "Use a name in it as server of the kubeconfig."
        )
    why, hint = explained(error, seen, server)
    return ClusterError(why, hint=hint)


def _first_line(error: BaseException) -> str:
    return SECRETS.mask((str(error) or type(error).__name__).partition("\n")[0][:300])
