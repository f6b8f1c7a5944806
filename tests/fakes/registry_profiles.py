"""Profiles of registries that sites run themselves, each as its administrator sets it up for a mirror.

Written from source and documentation, which each switch cites as `owner/repo path`; "assumption" where neither was found. Only
docker-registry 2.8.2 and Pulp were also run for real (tests/integration/test_registry_real.py, test_registry_pulp.py).
"""

from __future__ import annotations

from dataclasses import replace

from tests.fakes.registry_product import PREFIX, Product
from tests.fakes.registry_profile import INDEXES, MANIFESTS, Profile, Refusal

# distribution/distribution, as release/2.8. Its htpasswd is Basic (registry/auth/htpasswd/access.go); a repository comes into being
# with its first blob (registry/handlers/blobupload.go).
DISTRIBUTION = Profile(
    auth="basic",
    location="absolute",  # registry/api/v2/urls.go: URLs are absolute unless `http.relativeurls` is set
    # registry/api/v2/errors.go (2.8), registry/api/errcode/register.go (3): 400 for what a manifest names
    blob_unknown=Refusal(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", detail="{digest}"),
    max_manifest=4 * 1024 * 1024,
    # registry/handlers/manifests.go, maxManifestBodySize and copyFullPayload: MANIFEST_INVALID with 400
    too_large=Refusal(400, "MANIFEST_INVALID", "manifest invalid", detail="http: request body too large"),
    media_types=MANIFESTS | INDEXES,
    # registry/handlers/manifests.go, UnmarshalManifest: a Content-Type that no unmarshaller is registered for
    wrong_type=Refusal(400, "MANIFEST_INVALID", "manifest invalid", detail={}),
    # registry/storage/schema2manifesthandler.go: `urls` only where `validation.manifests.urls.allow` matches; the error is no
    # errcode, so it is UNKNOWN with 500 (distribution/distribution#2795)
    foreign_urls=False,
    no_foreign_urls=Refusal(500, "UNKNOWN", "unknown error", detail={}),
    # registry/storage/manifestlisthandler.go, verifyManifest: every manifest of an index must be there
    sparse=False,
    # registry/handlers/app.go: no route `referrers` in 2.8 and 3.0: gorilla/mux answers with a page
    referrers=False,
    no_referrers=Refusal(404, page="404 page not found\n"),
    # registry/handlers/manifests.go, DeleteManifest: UNSUPPORTED unless `storage.delete.enabled`
    no_delete=Refusal(405, "UNSUPPORTED", "The operation is unsupported."),
    deletes=False,
)

DOCKER_REGISTRY_2 = Product(
    replace(
        DISTRIBUTION,
        name="docker-registry 2.8",
        page=10_000,  # registry/handlers/tags.go (2.8): every tag at once
    )
)

DOCKER_REGISTRY_3 = Product(
    replace(
        DISTRIBUTION,
        name="docker-registry 3",
        page=1000,  # configuration/configuration.go (3): `tags.maxtags` is 1000
        # registry/storage/manifestlisthandler.go (3), platformMustExist
        sparse=True,
    ),
    settings=("validation.manifests.indexes.platforms: none",),
)

# quay/quay. The organization exists, and the account is a robot that may create repositories in it.
_QUAY = Profile(
    auth="token",
    token_path="/v2/auth",  # endpoints/v2/v2auth.py, generate_registry_jwt
    token_life_s=None,  # the same: the answer is {"token": ...}, though it lives for an hour
    # endpoints/v2/v2auth.py, _authorize_or_downscope_request: `push` creates the repository where the account may; `pull` alone
    # is granted of what exists. Nothing is refused: the token has less in it
    creates_by_token=True,
    location="absolute",  # endpoints/v2/blob.py, start_blob_upload: get_app_url() + url_for(...)
    patch="many",  # endpoints/v2/blob.py, upload_chunk
    # endpoints/v2/blob.py, _try_to_mount_blob: 202 and a session where the other repository may not be read
    mounts="created",
    # endpoints/v2/manifest.py, _reject_manifest2_schema2; endpoints/v2/errors.py, ManifestInvalid
    media_types=MANIFESTS | INDEXES,
    wrong_type=Refusal(415, "MANIFEST_INVALID", "manifest invalid", {"message": "manifest schema version not supported"}),
    blob_unknown=Refusal(400, "MANIFEST_INVALID", "manifest invalid", {"message": "Unknown blob `{digest}`"}),
    # endpoints/v2/manifest.py, _write_manifest: TagImmutable with this detail; assumption: status and code of TagAlreadyExists
    is_immutable=Refusal(409, "TAG_ALREADY_EXISTS", "tag was already pushed", {"message": "tag '{tag}' is immutable"}),
    sparse=False,  # endpoints/v2/test/test_sparse_index.py: FEATURE_SPARSE_INDEX and SPARSE_INDEX_REQUIRED_ARCHS
    no_sparse=Refusal(400, "MANIFEST_INVALID", "manifest invalid", {"message": "Could not find child manifest with digest"}),
    referrers=True,  # endpoints/v2/referrers.py, features.REFERRERS_API (3.12 and later)
    subject_header=False,  # endpoints/v2/manifest.py: the answer to PUT has Docker-Content-Digest and Location alone
    no_referrers=Refusal(404, page="<html>404</html>"),  # endpoints/decorators.py, route_show_if: abort(404)
    # endpoints/v2/blob.py has no route for DELETE; flask answers 405
    deletes_blobs=False,
    no_delete=Refusal(405, page="<title>405 Method Not Allowed</title>"),
    page=100,  # endpoints/v2/__init__.py, _MAX_RESULTS_PER_PAGE
)

QUAY = Product(
    replace(
        _QUAY,
        name="Quay",
        redirect=True,  # endpoints/v2/blob.py, download_blob: to the storage, unless FEATURE_PROXY_STORAGE
    ),
    organizations=frozenset({PREFIX}),
)

MIRROR_REGISTRY = Product(
    replace(
        _QUAY,
        name="mirror registry for OpenShift",
        redirect=False,  # quay/mirror-registry templates/config.yaml.j2: LocalStorage, which has no direct URL
        referrers=False,  # assumption: releases with a Quay that does not have the API yet
    ),
    # templates/config.yaml.j2: CREATE_NAMESPACE_ON_PUSH, so the user of `init` makes organizations by pushing
    organizations=frozenset({PREFIX}),
)

# goharbor/harbor: a core that checks, before docker-registry 2.8 (src/server/registry/route.go), so most answers are those of
# distribution.
HARBOR = Product(
    replace(
        DISTRIBUTION,
        name="Harbor",
        auth="token",
        token_path="/service/token",  # src/server/middleware/v2auth/auth.go, getChallenge
        token_life_s=1800,  # src/lib/config/metadata/metadatalist.go: token_expiration is 30 minutes
        also_basic=True,  # src/server/middleware/security/basic_auth.go
        # src/server/middleware/v2auth/auth.go, getChallenge: only a request without Authorization is led to the token service
        challenge_again='Basic realm="harbor"',
        must_exist="project",
        # src/core/service/token/creator.go: a token for a project that does not exist has no actions. Then v2auth refuses:
        # 401, an empty challenge, and this text (goharbor/harbor#966)
        missing_read=Refusal(
            401,
            "UNAUTHORIZED",
            "project {project} not found: project {project} not found",
            headers=(("WWW-Authenticate", ""),),
        ),
        missing_write=Refusal(
            401,
            "UNAUTHORIZED",
            "project {project} not found: project {project} not found",
            headers=(("WWW-Authenticate", ""),),
        ),
        # src/server/middleware/v2auth/auth.go, check (goharbor/harbor#13115, #21373)
        no_write=Refusal(
            401,
            "UNAUTHORIZED",
            "unauthorized to access repository: {name}, action: push: unauthorized to access repository: {name}, action: push",
            headers=(("WWW-Authenticate", 'Basic realm="harbor"'),),
        ),
        location="relative",  # make/photon/prepare/templates/registry/config.yml.jinja: relativeurls: true
        # src/server/middleware/immutable/pushmf.go: 412 for every PUT of the tag, also of the digest that it has
        immutable_same=False,
        is_immutable=Refusal(412, "PRECONDITION", "Failed to process request due to '{name}:{tag}' configured as immutable."),
        referrers=True,  # src/server/registry/referrers.go, since 2.8
        subject_header=True,  # src/server/middleware/subject/subject.go
        deletes=True,  # src/server/registry/manifest.go, deleteManifest
        # src/controller/artifact/controller.go, deleteDeeply; src/lib/errors/const.go: a violated foreign key is 412
        referenced=Refusal(412, "PRECONDITION", "the deleting artifact is referenced by others"),
        cascades=True,  # the same: children and accessories that nothing else names
        deletes_blobs=False,  # src/server/registry/route.go: `others` go to docker-registry (assumption: deletion not enabled)
    ),
    prepared=frozenset({PREFIX}),
    settings=("the project",),
)

# project-zot/zot
ZOT = Product(
    Profile(
        name="zot",
        auth="basic",  # pkg/api/authn.go: htpasswd
        # pkg/api/authz.go, and pkg/api/errors/errors.go: DENIED with 403
        no_write=Refusal(403, "DENIED", "requested access to the resource is denied"),
        location="relative",  # pkg/api/routes.go, CreateBlobUpload
        # pkg/api/routes.go, CreateBlobUpload: a mount is a hard link where deduplication knows the blob, else a session
        mounts="created",
        # pkg/compat/compat.go: `http.compat: ["docker2s2"]`; without it project-zot/zot#724
        media_types=MANIFESTS | INDEXES,
        wrong_type=Refusal(415, "MANIFEST_INVALID", "manifest invalid", {"mediaType": "{type}"}),
        # pkg/storage/common/common.go, ValidateManifest: ErrBadManifest for a blob or child that is not there
        blob_unknown=Refusal(400, "MANIFEST_INVALID", "manifest invalid", {"reference": "{digest}"}),
        sparse=False,
        referrers=True,  # pkg/api/routes.go, GetReferrers
        deletes=True,
        # pkg/storage/imagestore/imagestore.go, deleteImageManifest: ErrManifestReferenced; pkg/api/routes.go: 405 DENIED
        referenced=Refusal(405, "DENIED", "manifest referenced by index image"),
        deletes_tags=True,  # project-zot/zot#2626
        deletes_blobs=True,  # pkg/api/routes.go, DeleteBlob
    ),
    settings=('http.compat: ["docker2s2"]',),
)

# pulp/pulp_container. What is marked "measured" was seen on pulpcore 3.123 with pulp_container 2.30
# (tests/integration/test_registry_pulp.py, which runs it in `make test-all`).
PULP = Product(
    Profile(
        name="Pulp",
        auth="token",
        token_path="/token/",  # pulp_container/app/urls.py
        # pulp_container/app/authorization.py, TOKEN_EXPIRATION_TIME. `push` gives `pull` too, and a token for /v2/ itself has to
        # have no scope (app/token_verification.py, TokenPermission); measured
        token_life_s=300,
        location="relative",  # pulp_container/app/registry_api.py, UploadResponse
        # pulp_container/app/registry_api.py, BlobUploads.put: the body of the closing PUT is not read in versions before 2.15
        # (pulp/pulp_container#1219, #1274). Since then it is stored, but its digest is not compared, so that a connection that
        # breaks leaves a short blob for good (measured); after a PATCH the digest is compared: 500 where it is wrong.
        whole_put="ignored",
        checks_digest=False,
        # the same, ContainerRegistryApiMixin.default_response_headers; by this the client knows that a PUT is not compared
        upload_headers=(("X-Registry-Supports-Signatures", "1"),),
        patch_status=204,  # pulp/pulp_container#2199, fixed in 2.28 (measured: 202)
        upload_status=False,  # pulp/pulp_container#2201: GET of an upload is not supported (measured: it is in 2.30)
        # the same, BlobUploads.mount_blob: only what a tagged image of the other repository has (measured)
        mounts="referenced",
        not_referenced=Refusal(404, "BLOB_UNKNOWN", "Blob not found, hello!?", {"digest": "{digest}"}),
        blob_unknown=Refusal(400, "MANIFEST_INVALID", "manifest invalid", {"digest": "{digest}"}),
        # the same, Manifests.put: an index without its manifests makes an error, which is not raised (measured)
        sparse=True,
        referrers=False,  # no view in pulp_container/app/registry_api.py (measured)
        no_referrers=Refusal(404, page="<h1>Not Found</h1>"),
        deletes=False,  # before 2.30: Manifests has head, get and put; Django REST framework answers 405 (measured: 2.30 has DELETE)
        deletes_blobs=False,
        no_delete=Refusal(405, "UNSUPPORTED", 'Method "DELETE" not allowed.', {}),
        redirect=True,  # pulp_container/app/redirects.py, to the content server; HEAD too (measured)
        page=100,  # pulpcore, REST_FRAMEWORK PAGE_SIZE
    )
)

# Katello/katello app/controllers/katello/api/registry/registry_proxies_controller.rb, before Pulp.
SATELLITE = Product(
    replace(
        PULP.profile,
        name="Satellite",
        token_path="/v2/token",  # redirect_authorization_headers
        token_life_s=360,  # token: 6 minutes
        also_basic=True,  # set_user_by_token
        challenge_scope="repository:registry:pull,push",  # redirect_authorization_headers: one for all repositories
        # check_blob_push_org_label, check_blob_push_product_label: both must be there
        must_exist="product",
        missing_write=Refusal(404, "NAME_UNKNOWN", "Organization not found: '{project}'"),
        missing_read=Refusal(404, "NAME_UNKNOWN", "{name} was not found!"),  # item_not_found
        # parse_blob_push_props: three components, no fewer and no more
        depth=3,
        too_deep=Refusal(
            400,
            "NAME_INVALID",
            "Invalid format. Container pushes should follow 'organization_label/product_label/name' OR "
            "'id/organization_id/product_id/name' schema.",
        ),
        blob_head_length=False,  # check_blob: only the status, until Katello/katello#11413
        no_delete=Refusal(404, page="not found"),  # no route
    ),
    prepared=frozenset({f"{PREFIX}/mirror", f"{PREFIX}/cut"}),
    settings=(":katello: :container_image_registry: :allow_push: true",),
    prefix=f"{PREFIX}/mirror",
    other_prefix=f"{PREFIX}/cut",
    options=("--max-path-components", "3"),
)

PROFILES = (DOCKER_REGISTRY_2, DOCKER_REGISTRY_3, QUAY, MIRROR_REGISTRY, HARBOR, ZOT, PULP, SATELLITE)
