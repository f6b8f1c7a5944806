"""The Kubernetes API over HTTP: the verbs, watches, bearer tokens; what the objects do is the store's."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
import urllib.parse
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import yaml

from tests.fakes import cluster_pod_security
from tests.fakes.cluster_discovery import access_review, discovery, self_review
from tests.fakes.cluster_rbac import Asked, Roles, escalates
from tests.fakes.cluster_request import Request, Target
from tests.fakes.cluster_store import Body, Key, RefusedError, Write

if TYPE_CHECKING:
    from tests.fakes.cluster import FakeCluster

_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
_MAX_BODY = 3 * 1024 * 1024


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, cluster: FakeCluster, context: ssl.SSLContext | None) -> None:
        self.cluster = cluster
        self.ending = False
        self._context = context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(120)
        if self._context:
            request = self._context.wrap_socket(request, server_side=True)
        self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)
            if self._context:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.cluster.errors.append(error)

    def stop(self) -> None:
        self.ending = True
        with self.cluster.store.changed:
            self.cluster.store.changed.notify_all()
        self.shutdown()
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join(120)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    entry: Request
    warnings: tuple[str, ...] = ()  # of the answer that is being made

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def cluster(self) -> FakeCluster:
        return self.server.cluster

    def log_message(self, *_args: Any) -> None:
        """Say nothing: the log is in memory."""

    def do_GET(self) -> None:
        self._handle()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def _handle(self) -> None:
        self.warnings = ()
        path, _, query = self.path.partition("?")
        content_type = self.headers.get("Content-Type", "").partition(";")[0]
        self.entry = Request(self.command, urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(query)), content_type)
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MAX_BODY:
            self.close_connection = True
            self._answer(413, {"message": "request entity too large"})
            return
        self.entry.body = self.rfile.read(length)
        with self.cluster.store.lock:
            self.cluster.log.append(self.entry)
        try:
            self._route()
        except RefusedError as refused:
            self._answer(refused.code, refused.body)

    def _route(self) -> None:
        if (fault := self.cluster.take_fault(self.entry)) is not None:
            if fault.status == 0:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self._send(fault.status, fault.body, fault.content_type)
            return
        if self.cluster.token and self.headers.get("Authorization") != f"Bearer {self.cluster.token}":
            raise RefusedError(401, "Unauthorized", "Unauthorized")
        document = discovery(self.cluster, self.entry.path.strip("/").split("/"))
        if document is not None:
            self._answer(200, document)
            return
        if self.entry.path.endswith("/selfsubjectaccessreviews"):
            self._answer(201, access_review(self.cluster, self._document()))
            return
        if (asking := self_review(self.cluster, self.entry.path)) is not None:
            self._answer(201 if self.command == "POST" else 200, asking)
            return
        target = self._target()
        verb = self._verb(target)
        resource = target.kind.plural + (f"/{target.subresource}" if target.subresource else "")
        if (
            (verb, resource) in self.cluster.forbidden
            or (not target.namespace and (verb, resource) in self.cluster.forbidden_everywhere)
            or not self._allowed(verb, resource, target)
        ):
            place = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
            who = 'User "tester"'
            message = f'{target.kind.resource} is forbidden: {who} cannot {verb} resource "{resource}"{place}'
            raise RefusedError(403, "Forbidden", message)
        if verb == "watch":
            self._watch(target)
        elif target.subresource == "log":
            self._log(target)
        else:
            self._answer(*self._carry_out(verb, target))

    def _allowed(self, verb: str, resource: str, target: Target) -> bool:
        roles = self.cluster.roles
        if roles is None:
            return True
        asked = Asked(verb, target.kind.group, resource, target.namespace, target.name)
        if not roles.allows(asked):
            return False
        # An apply that creates its object needs `create` too, with the name (apiserver, endpoints/handlers/patch.go).
        created = (
            self.entry.content_type == _APPLY
            and self.cluster.store.find(Key(target.kind, target.namespace, target.name)) is None
        )
        return not created or roles.allows(replace(asked, verb="create"))

    def _require_no_escalation(self, roles: Roles, target: Target, body: Body) -> None:
        referred = None
        if target.kind.kind == "RoleBinding" and (body.get("roleRef") or {}).get("kind") == "Role":
            key = Key(self.cluster.kind("Role"), target.namespace, body["roleRef"]["name"])
            referred = self.cluster.store.find(key)
        if escalates(roles, target.kind.kind, target.namespace, body, referred):
            message = f'{target.kind.resource} "{target.name}" is forbidden: user "tester" is attempting to grant RBAC permissions not currently held'
            raise RefusedError(403, "Forbidden", message)

    def _target(self) -> Target:
        parts = self.entry.path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (*[*parts, "", ""][1:3], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        found = [
            each for each in self.cluster.kinds if rest and (each.group, each.version, each.plural) == (group, version, rest[0])
        ]
        if not found:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        name, subresource = (*rest[1:], "", "")[:2]
        return Target(found[0], namespace, name, subresource)

    def _verb(self, target: Target) -> str:
        if self.command == "GET":
            return "watch" if self.entry.query.get("watch") in {"true", "1"} else "get" if target.name else "list"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.command]

    def _carry_out(self, verb: str, target: Target) -> tuple[int, Body]:
        store, key = self.cluster.store, Key(target.kind, target.namespace, target.name)
        if verb in {"get", "list"}:
            self.cluster.simulator.read(target.kind.kind)
        if verb == "list":
            return 200, self._list(target)
        if verb == "get":
            return 200, store.get(key)
        if verb == "delete":
            return 200, self._delete(key)
        query = self.entry.query
        manager = query.get("fieldManager") or self.headers.get("User-Agent", "unknown").partition("/")[0]
        write = Write(manager, query.get("dryRun") == "All", query.get("fieldValidation") == "Strict")
        body = self._document()
        if self.cluster.roles is not None:
            self._require_no_escalation(self.cluster.roles, target, body)
        code, written, former, pruned = 200, {}, store.version, len(store.pruned)
        self._admit(target, body)
        self.warnings += tuple(text for part, text in self.cluster.warnings if part in self.entry.path)
        if verb == "create":
            key = Key(target.kind, target.namespace, str((body.get("metadata") or {}).get("name")))
            self._require_namespace(target)
            code, written = 201, store.create(key, body, write)
        elif verb == "update":
            written = store.replace(key, body, write)
        elif self.entry.content_type == _MERGE:
            written = store.merge_patch(key, body, write)
        elif self.entry.content_type == _APPLY:
            written = self._apply(key, body, write, target)
        else:
            raise RefusedError(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {self.entry.content_type}"
            )
        # KEP-2885: unknown fields are dropped and warned of, by default since Kubernetes 1.25.
        if self.cluster.kubernetes >= (1, 25) and query.get("fieldValidation") in {None, "Warn"}:
            unknown = dict.fromkeys(each.partition(": .")[2] for each in store.pruned[pruned:])
            self.warnings += tuple(f'unknown field "{path}"' for path in unknown)
        if store.version != former:  # a write that changes nothing wakes no controller
            self.cluster.simulator.wrote(target.kind.kind)
        return code, written

    def _delete(self, key: Key) -> Body:
        options = self._document() if self.entry.body else {}
        deleted = self.cluster.store.delete(key, options.get("preconditions"))
        self.cluster.simulator.deleted()
        return deleted

    def _apply(self, key: Key, body: Body, write: Write, target: Target) -> Body:
        if not self.cluster.server_side_apply:
            raise RefusedError(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        if "fieldManager" not in self.entry.query:
            raise RefusedError(400, "BadRequest", "fieldManager is required for apply patch")
        if (body.get("apiVersion"), body.get("kind")) != (key.kind.api_version, key.kind.kind):
            raise RefusedError(400, "BadRequest", "apiVersion and kind have to be those of the path")
        self._require_namespace(target)
        return self.cluster.store.apply(key, body, write, force=self.entry.query.get("force") == "true")

    def _admit(self, target: Target, body: Body) -> None:
        """Let Pod Security admission see pods and workloads, dry runs too: those are refused, of these it warns."""
        namespace = self.cluster.store.find(Key(self.cluster.kind("Namespace"), "", target.namespace))
        spec = (body.get("spec") or {}) if isinstance(body, dict) else {}
        if namespace is None or target.kind.kind not in {"Pod", "Deployment", "Job"}:
            return
        if target.kind.kind == "Pod" and (said := cluster_pod_security.denial(namespace, spec)):
            raise RefusedError(403, "Forbidden", f'pods "{target.name}" is forbidden: {said}')
        said = cluster_pod_security.warning(namespace, (spec.get("template") or {}).get("spec") or {})
        self.warnings += (said,) if said else ()

    def _require_namespace(self, target: Target) -> None:
        if target.kind.namespaced and target.namespace not in self.cluster.namespaces():
            raise RefusedError(404, "NotFound", f'namespaces "{target.namespace}" not found')

    def _document(self) -> Any:
        try:
            return (
                yaml.load(self.entry.body, yaml.CSafeLoader)
                if self.entry.content_type == _APPLY
                else json.loads(self.entry.body)
            )
        except (ValueError, yaml.YAMLError) as error:
            raise RefusedError(400, "BadRequest", f"the object provided is unrecognized: {error}") from error

    def _list(self, target: Target) -> Body:
        kind = target.kind
        with self.cluster.store.lock:
            items = [body for body in self.cluster.objects(kind, target.namespace) if self._selected(body)]
            version = str(self.cluster.store.version)
        metadata = {"resourceVersion": version}
        # A page (Kubernetes API concepts, "Retrieving large results sets in chunks"); the token is opaque, here a position.
        first, limit = int(self.entry.query.get("continue") or 0), int(self.entry.query.get("limit") or 0)
        if limit and len(items) > first + limit:
            metadata["continue"] = str(first + limit)
        items = items[first : first + limit if limit else None]
        bare = [{name: value for name, value in item.items() if name not in {"apiVersion", "kind"}} for item in items]
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.api_version,
            "metadata": metadata,
            "items": items if kind.group else bare,  # the core's items come without their kind
        }

    def _selected(self, body: Body) -> bool:
        labels = body["metadata"].get("labels") or {}
        for term in filter(None, self.entry.query.get("labelSelector", "").split(",")):
            if term.startswith("!"):  # the label is not there
                if term[1:] in labels:
                    return False
                continue
            name, equals, value = term.partition("=")
            if labels.get(name) != value.removeprefix("=") if equals else name not in labels:
                return False
        return all(_matches(body, term) for term in self.entry.query.get("fieldSelector", "").split(",") if term)

    def _watch(self, target: Target) -> None:
        """Stream events until the time is over, the client goes or the server stops; then the connection ends."""
        store = self.cluster.store
        seen = int(self.entry.query.get("resourceVersion") or store.version)
        end = time.monotonic() + float(self.entry.query.get("timeoutSeconds") or 30)
        self.entry.status = 200
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        while time.monotonic() < end and not self.server.ending:
            with store.changed:
                news = [event for event in store.events if event.version > seen]
                if not news:
                    store.changed.wait(0.05)
            for event in news:
                seen = event.version
                if (
                    event.key.kind == target.kind
                    and target.namespace in {"", event.key.namespace}
                    and self._selected(event.body)
                ):
                    self.wfile.write(json.dumps({"type": event.type, "object": event.body}).encode() + b"\n")

    def _log(self, target: Target) -> None:
        """Give the last lines of a container's log, as text."""
        self.cluster.store.get(Key(target.kind, target.namespace, target.name))
        container = self.entry.query.get("container", "registry-server")
        text = self.cluster.logs.get(f"{target.namespace}/{target.name}/{container}", "")
        lines = text.splitlines()[-int(self.entry.query.get("tailLines") or 1000) :]
        self._send(200, "".join(f"{line}\n" for line in lines).encode(), "text/plain")

    def _answer(self, status: int, document: Body) -> None:
        changed = self.cluster.changed_answer
        body = json.dumps(document).encode()
        self._send(status, changed(self.entry, body) if changed else body, "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.entry.status = status
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        for warning in self.warnings:  # RFC 9110 has dropped the header, Kubernetes uses it (KEP-1693)
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            self.send_header("Warning", f'299 - "{escaped}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _matches(body: Body, term: str) -> bool:
    """Say whether an object has what one term of a field selector asks for: `path=value`, `path==value` or `path!=value`."""
    path, _, value = term.partition("=")
    found: Any = body
    for name in path.removesuffix("!").split("."):
        found = (found or {}).get(name)
    return (str(found or "") == value.removeprefix("=")) is not path.endswith("!")
