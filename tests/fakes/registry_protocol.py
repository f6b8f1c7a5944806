"""What the fake registry answers: distribution specification 1.1, and token authentication."""

from __future__ import annotations

import base64
import json
import re
import time
import urllib.parse
import uuid
from typing import Any

from common.oci import media_types
from common.oci.image import digest_of
from tests.fakes import registry_rules as rules
from tests.fakes.registry_server import ElsewhereHandler, Handler, Request

_ROUTE = re.compile(r"/v2/(.+)/(manifests|blobs/uploads|blobs|tags|referrers)/([^/]*)")


class RegistryHandler(Handler):
    def _log(self) -> list[Request]:
        return self.registry.requests

    def respond(self) -> None:
        path = self.registry.profile.token_path
        if self.registry.profile.realm_redirect and self.entry.path == f"/redirected{path}":
            self.answer(self.registry.profile.realm_redirect, b"", {"Location": self.target_of(path)})
            return
        if self.entry.path == path:
            self._token()
            return
        if not self.entry.path.startswith("/v2/"):
            self.answer(404, b"<html>not found</html>")
            return
        match = _ROUTE.fullmatch(self.entry.path)
        if (reply := rules.limited(self.registry)) is not None:
            self._send(reply)
            return
        if not self._is_elsewhere() and not self._allowed(match[1] if match else ""):
            return
        if self.entry.path == "/v2/":
            self.answer(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0", "Set-Cookie": "session=1; Path=/"})
        elif not match:
            self.refuse(404, "NAME_INVALID")
        elif self.registry.is_too_deep(match[1]):
            self._send(self.registry.profile.too_deep.reply(name=match[1]))
        elif (reply := rules.missing(self.registry, match[1], self.command)) is not None:
            self._send(reply)
        else:
            method = {"blobs/uploads": "_upload", "tags": "_tags"}.get(match[2], f"_{match[2]}")
            with self.registry.lock:
                act = getattr(self, method)
                reply = act(match[1], match[3])
            self._send(reply)

    def _send(self, reply: tuple[Any, ...]) -> None:
        kind, *rest = reply
        getattr(self, kind)(*rest)

    def target_of(self, path: str) -> str:
        """Return a path at this registry, with the query of the request."""
        _, mark, query = self.path.partition("?")
        return f"{self.registry.url}{path}{mark}{query}"

    def _is_elsewhere(self) -> bool:
        """Say whether this is the other host that uploads lead to: the same server by its address. No account counts there."""
        return self.registry.profile.location == "elsewhere" and self.headers.get("Host", "").startswith("127.0.0.1")

    # Who may.

    def _allowed(self, repository: str) -> bool:
        registry = self.registry
        given = self.headers.get("Authorization", "")
        wanted = self._wanted(repository)
        if registry.auth is None:
            return True
        is_too_deep = registry.profile.too_deep.status == 401 and registry.is_too_deep(repository)
        if registry.auth == "basic" or (registry.profile.also_basic and given.startswith("Basic ")):
            user = self._user(given)
            if user and not is_too_deep and (registry.quay is None or registry.quay.allows(user, repository)):
                return not self._forbidden(user, repository)
            challenge = 'Basic realm="fake, with a comma"'
        else:
            scopes, until = registry.tokens.get(given.removeprefix("Bearer "), (set(), 0.0))
            base = repository or registry.quay is None or not registry.quay.needs_repository
            if given.startswith("Bearer ") and time.monotonic() < until and wanted <= scopes and base and not is_too_deep:
                return True
            if given.startswith("Bearer ") and self._forbidden(registry.holders.get(given), repository):
                return False
            lead = "/redirected" if registry.profile.realm_redirect else ""
            realm = registry.realm or f"{registry.url}{lead}{registry.profile.token_path}"
            scope = (
                f',scope="repository:{repository}:{"pull" if wanted == {f"{repository}:pull"} else "pull,push"}"'
                if repository
                else ""
            )
            if registry.profile.challenge_scope:
                scope = f',scope="{registry.profile.challenge_scope}"'
            challenge = f'Bearer realm="{realm}",service="fake registry"{scope}'
        if given and registry.profile.challenge_again:
            challenge = registry.profile.challenge_again
        self.refuse(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})
        return False

    def _forbidden(self, user: str | None, repository: str) -> bool:
        """Send the product's own refusal, where it has one; say whether it was sent."""
        reply = rules.forbidden(self.registry, user, repository, self.command)
        if reply is not None:
            self._send(reply)
        return reply is not None

    def _wanted(self, repository: str) -> set[str]:
        if not repository:
            return set()
        writes = self.command not in ("GET", "HEAD")
        return {f"{repository}:{action}" for action in (("pull", "push") if writes else ("pull",))}

    def _user(self, given: str) -> str | None:
        if not given.startswith("Basic "):
            return None
        user, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
        return user if self.registry.passwords.get(user) == password else None

    def _token(self) -> None:
        registry = self.registry
        user = self._user(self.headers.get("Authorization", ""))
        scopes = [value for key, value in urllib.parse.parse_qsl(self.path.partition("?")[2]) if key == "scope"]
        if self.command == "POST":
            form = dict(urllib.parse.parse_qsl(self.entry.body.decode()))
            user = "identity" if form.get("refresh_token") in registry.identity_tokens else None
            scopes = form.get("scope", "").split()
        if user is None and ("Authorization" in self.headers or self.command == "POST" or not registry.anonymous):
            self.refuse(401, "UNAUTHORIZED", "incorrect username or password")
            return
        token = f"token-{uuid.uuid4().hex}"
        granted = set()
        for scope in scopes:
            if scope.count(":") != 2:  # as `aws` of ECR Public: it names no repository
                continue
            _, name, actions = scope.split(":")
            asked = set(actions.split(","))
            given = self._granted(user, name, asked)
            if registry.deep_token and registry.is_too_deep(name):
                given = set()
                if registry.deep_token != 200:
                    self.refuse(registry.deep_token, "DENIED", "requested access to the resource is denied")
                    return
            if registry.quay and registry.quay.refuses and given != asked:
                self.refuse(registry.quay.refuses, "DENIED", "requested access to the resource is denied")
                return
            granted |= {f"{name}:{action}" for action in given}
        life = registry.token_life_s
        with registry.lock:
            registry.holders[f"Bearer {token}"] = user
            registry.tokens[token] = (granted, time.monotonic() + (60 if life is None else life))
        answer: dict[str, Any] = {"access_token" if self.command == "POST" else "token": token}
        if life is not None:
            answer["expires_in"] = life
        self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _granted(self, user: str | None, name: str, asked: set[str]) -> set[str]:
        registry = self.registry
        if registry.quay is None:
            if registry.auth == "token" and not rules.prepared(registry, name):
                return set()
            return asked & {"pull"} if user in registry.readers or not user else asked
        with registry.lock:
            granted = registry.quay.actions(user, name, asked, name in registry.repositories)
            if "push" in granted:
                _ = registry.repositories[name]  # a token to push creates it
        return granted

    # Manifests.

    def _manifests(self, name: str, wanted: str) -> tuple[Any, ...]:
        if self.command == "PUT":
            return self._put_manifest(name, wanted)
        repository = self.registry.repositories.get(name)
        if repository is None:
            return ("refuse", 404, "NAME_UNKNOWN", "repository name not known to registry")
        if self.command == "DELETE":
            return rules.deleted(self.registry, name, wanted) or ("answer", 202, b"", {})
        digest = repository.tags.get(wanted, wanted)
        if digest not in repository.manifests:
            return ("refuse", 404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, raw = repository.manifests[digest]
        headers = {"Docker-Content-Digest": digest, "Content-Length": str(len(raw))}
        headers |= {"Content-Type": media_type} if media_type else {}  # some servers say nothing
        if self.fault and (self.fault.end_after is not None):
            del headers["Content-Length"]
        return ("answer", 200, *rules.shaped(self.registry, self.command, raw, headers))

    def _put_manifest(self, name: str, wanted: str) -> tuple[Any, ...]:
        ruled = self.registry.manifest_rule(name, wanted, self.headers.get("Content-Type", ""))
        if ruled is not None:
            return ("refuse", *ruled)
        raw, digest = self.entry.body, digest_of(self.entry.body)
        document, kind = json.loads(raw), self.headers.get("Content-Type", "")
        if wanted.startswith("sha256:") and wanted != digest:
            return ("refuse", 400, "DIGEST_INVALID")
        reply = rules.bad_manifest(self.registry, name, wanted, kind, raw)
        reply = reply or rules.unknown_children(self.registry, name, document)
        if reply is not None:
            return reply
        repository = self.registry.repositories[name]
        repository.manifests[digest] = (kind, raw)
        if not wanted.startswith("sha256:"):
            repository.tags[wanted] = digest
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if "subject" in document and self.registry.referrers and self.registry.profile.subject_header:
            headers["OCI-Subject"] = document["subject"]["digest"]
        if not self.registry.profile.digest_header:
            del headers["Docker-Content-Digest"]
        return ("answer", self.registry.profile.put_status, b"", headers)

    def _tags(self, name: str, _list: str) -> tuple[Any, ...]:
        if name not in self.registry.repositories:
            return ("refuse", 404, "NAME_UNKNOWN")
        last = self.entry.query.get("last", "")
        tags = [tag for tag in sorted(self.registry.repositories[name].tags) if tag > last]
        page = tags[: self.registry.page]
        more = {"Link": f'</v2/{name}/tags/list?last={page[-1]}>; rel="next"'} if len(tags) > len(page) else {}
        return ("answer", 200, json.dumps({"name": name, "tags": page}).encode(), {"Content-Type": "application/json", **more})

    def _referrers(self, name: str, digest: str) -> tuple[Any, ...]:
        if not self.registry.referrers:
            return self.registry.profile.no_referrers.reply(name=name, digest=digest)
        found = []
        for media_type, raw in self.registry.repositories[name].manifests.values():
            document = json.loads(raw)
            if document.get("subject", {}).get("digest") == digest:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
                found.append(
                    {"mediaType": media_type, "digest": digest_of(raw), "size": len(raw), "artifactType": kind}
                    | ({"annotations": document["annotations"]} if "annotations" in document else {})
                )
        wanted = self.entry.query.get("artifactType")
        applied = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        found = [each for each in found if wanted in (None, each["artifactType"])]
        body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found}
        return ("answer", 200, json.dumps(body).encode(), {"Content-Type": media_types.OCI_INDEX, **applied})

    # Blobs.

    def _blobs(self, name: str, digest: str) -> tuple[Any, ...]:
        if self.command == "HEAD" and self.registry.profile.head_blobs is not None:
            return self.registry.profile.head_blobs.reply(name=name, digest=digest, url=self.registry.url)
        content = self.registry.find_blob(name, digest)
        if content is None:
            return ("refuse", 404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.command == "DELETE":
            if not self.registry.deletes or not self.registry.profile.deletes_blobs:
                return self.registry.profile.no_delete.reply()
            del self.registry.repositories[name].blobs[digest]
            return ("answer", 202, b"", {})
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        if self.command == "HEAD":
            headers["Content-Length"] = str(len(content))
            return ("answer", 200, *rules.head_of_blob(self.registry, headers))
        if self.registry.redirect:
            signature = uuid.uuid4().hex
            self.registry.signatures.add(signature)
            scheme = self.registry.url.partition(":")[0]
            location = f"{scheme}://{self.registry.elsewhere_host}/signed/{name}/{digest}?sig={signature}"
            return ("answer", 307, b"", {"Location": location})
        return ("send_content", content, headers)

    def _upload(self, name: str, session: str) -> tuple[Any, ...]:
        if self.command == "POST":
            return self._begin(name)
        session, _, offset = session.partition("@")
        content = self.registry.sessions.get(session)
        if content is None:
            return ("refuse", 404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if self.command == "GET" and not self.registry.profile.upload_status:
            return self.registry.profile.no_patch.reply()
        if self.command == "GET":
            return ("answer", 204, b"", {**self._location(name, session), "Range": f"0-{max(self._offset(session) - 1, 0)}"})
        if self.command == "DELETE":
            del self.registry.sessions[session]
            return ("answer", 204)
        begins = (self.headers.get("Content-Range") or f"{self._offset(session)}-").partition("-")[0]
        if {int(offset), int(begins)} != {self._offset(session)}:
            return ("answer", 416, b"", {**self._location(name, session), "Range": f"0-{max(self._offset(session) - 1, 0)}"})
        reply = rules.bad_upload(self.registry, self.command, self.entry.body, self.registry.chunks[session])
        if reply is None and self.command == "PATCH" and "Content-Range" in self.headers:
            reply = rules.bad_range(self.registry, self.entry.body)
        if reply is not None:
            return reply
        if self.command == "PATCH":
            rules.kept(self.registry, content, self.entry.body)
            self.registry.chunks[session].append(len(self.entry.body))
            status = self.registry.profile.patch_status
            return ("answer", status, b"", {**self._location(name, session), "Range": f"0-{self._offset(session) - 1}"})
        whole = bytes(content) + (b"" if self.registry.profile.whole_put == "ignored" else self.entry.body)
        digest = self.entry.query.get("digest", "")
        if self.registry.profile.checks_digest and digest_of(whole) != digest:
            return ("refuse", 400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        del self.registry.sessions[session]
        self.registry.repositories[name].blobs[digest] = whole
        self.registry.arrivals[digest] = self.registry.asked
        return ("answer", 201, b"", {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _offset(self, session: str) -> int:
        """How many bytes came, all of them kept or not."""
        return sum(self.registry.chunks[session]) or len(self.registry.sessions[session])

    def _begin(self, name: str) -> tuple[Any, ...]:
        mount, source = self.entry.query.get("mount"), self.entry.query.get("from", "")
        if mount and source in self.registry.refused_mounts:
            return ("refuse", self.registry.refused_mounts[source], "DENIED")
        content = self.registry.find_blob(source, mount) if mount and self.registry.mounts else None
        mounted = rules.mount(self.registry, name, source, mount) if mount and content is not None else False
        if isinstance(mounted, tuple):
            return mounted
        if mount and content is not None and mounted:
            self.registry.repositories[name].blobs[mount] = content
            return ("answer", 201, b"", {"Location": f"/v2/{name}/blobs/{mount}", "Docker-Content-Digest": mount})
        session = uuid.uuid4().hex
        self.registry.sessions[session] = bytearray()
        return ("answer", 202, b"", self._location(name, session))

    def _location(self, name: str, session: str) -> dict[str, str]:
        """The newest place of a session: an older one is refused, and its query has to be kept."""
        path = f"/v2/{name}/blobs/uploads/{session}@{self._offset(session)}?_state=a%2Bb%3D"
        least = self.registry.chunk_min_length
        base = "" if self.registry.relative_locations else self.registry.url
        if self.registry.profile.location == "elsewhere":
            base = self.registry.url.replace("localhost", "127.0.0.1")
        if self.registry.profile.location == "second":
            base = f"{self.registry.url.partition(':')[0]}://{self.registry.elsewhere_host}"
        return {
            "Location": base + path,
            **dict(self.registry.profile.upload_headers),
            **({"OCI-Chunk-Min-Length": str(least)} if least else {}),
        }


class OtherOriginHandler(ElsewhereHandler, RegistryHandler):
    """The second origin: signed blobs, and upload sessions without credentials."""

    def respond(self) -> None:
        match = _ROUTE.fullmatch(self.entry.path)
        if match is None or match[2] != "blobs/uploads":
            ElsewhereHandler.respond(self)
        elif "Authorization" in self.headers or "Cookie" in self.headers:
            self.answer(400, b"<Error><Code>InvalidArgument</Code></Error>")
        else:
            with self.registry.lock:
                kind, *rest = self._upload(match[1], match[3])
            getattr(self, kind)(*rest)
