"""Profiles of products without public source, and of GitLab: from bug reports and documentation, which each switch cites."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes.registry_product import PREFIX, Product
from tests.fakes.registry_profile import Profile, Refusal
from tests.fakes.registry_profiles import DISTRIBUTION

# Artifactory, a local Docker repository in the form HOST/REPOSITORY/IMAGE, behind nginx.
ARTIFACTORY = Product(
    Profile(
        name="Artifactory",
        auth="token",
        token_path="/artifactory/api/docker/ocp/v2/token",  # the challenge in moby/buildkit#1130
        token_life_s=3600,  # assumption
        realm_redirect=301,  # moby/moby#38662: nginx leads the realm from http to https
        also_basic=True,  # assumption: as its other REST APIs
        must_exist="project",  # jfrog/charts#1854: the local repository is made first, and is the first component
        missing_read=Refusal(404, "NAME_UNKNOWN", "Repository name not known to registry.", {"name": "{name}"}),  # assumption
        missing_write=Refusal(404, "NAME_UNKNOWN", "Repository name not known to registry.", {"name": "{name}"}),
        location="absolute",  # distribution/distribution#2266: X-Artifactory-Override-Base-Url
        # containerd/containerd#3533: bytes come by PATCH; a PUT with a body is 404 (moby/buildkit#1130)
        whole_put="refused",
        no_whole_put=Refusal(404, "BLOB_UNKNOWN", "blob unknown to registry", {}),
        mounts="session",  # assumption
        blob_unknown=Refusal(
            400, "MANIFEST_INVALID", "manifest invalid", {"description": "null"}
        ),  # GoogleContainerTools/jib#534
        sparse=False,  # assumption
        referrers=True,  # git-pkgs/proxy#144: since 7.90.1
        subject_header=False,  # assumption
        deletes_blobs=False,  # assumption
    ),
    prepared=frozenset({PREFIX}),
    settings=("a local repository of type Docker",),
)

# Sonatype Nexus, a hosted Docker repository with a port of its own.
NEXUS = Product(
    Profile(
        name="Nexus",
        auth="basic",  # sonatype/nexus-public#921: forceBasicAuth is true for new repositories, whatever the realms are
        location="relative",  # assumption
        # estesp/manifest-tool#190 (400), #191 (the code and the detail): every manifest of an index must be there
        blob_unknown=Refusal(400, "BLOB_UNKNOWN", "blob unknown to registry", "{digest}"),
        sparse=False,
        visible_after=1,  # estesp/manifest-tool#191, sonatype/nexus-public#869: what has just arrived is not known yet
        referrers=False,  # assumption
        no_referrers=Refusal(404, page="<html><title>404 - Nexus Repository</title></html>"),
        deletes_blobs=False,  # assumption
    ),
    settings=("writePolicy: ALLOW",),  # datadrivers/terraform-provider-nexus: catalog tags move
)

# Amazon ECR, private. Repositories come into being by a repository creation template that is applied for `CREATE_ON_PUSH`
# (AmazonECR/latest/userguide/docker-push-ecr-image.html).
ECR = Product(
    Profile(
        name="Amazon ECR",
        auth="basic",  # AmazonECR/latest/userguide/registry_auth.html: user AWS, a password for twelve hours
        location="relative",  # assumption
        keeps="first",  # aws/containers-roadmap#2831: of several chunks all but the first are dropped
        patch_status=201,  # openai/tart#273, jdx/mise#11376
        mounts="referenced",  # aws/containers-roadmap#2860: else 202 and a session
        # AWS API PutImage: LayersNotFoundException, ReferencedImagesNotFoundException; code and status here are an assumption
        blob_unknown=Refusal(
            400, "MANIFEST_BLOB_UNKNOWN", "Layers with digests '{digest}' required for pushing image do not exist"
        ),
        sparse=False,
        no_sparse=Refusal(404, "MANIFEST_UNKNOWN", "Image with digest '{digest}' does not exist"),
        is_immutable=Refusal(
            400,  # moby/buildkit#3776, aws/containers-roadmap#2380: of the same digest, too
            "TAG_INVALID",
            "The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the repository "
            "is immutable.",
        ),
        immutable_same=False,
        referrers=True,  # aws/containers-roadmap#2783 for what it refuses of them
        deletes=False,  # assumption: BatchDeleteImage only
        no_delete=Refusal(405, "UNSUPPORTED", "The operation is unsupported."),
        redirect=True,  # assumption: layers come from S3
    ),
    settings=("a repository creation template for the prefix, applied for CREATE_ON_PUSH",),
)

# ECR Public: every HEAD of a blob is 401, with any token (aws/containers-roadmap#2671, helm/helm#12491).
ECR_PUBLIC = Product(
    replace(
        ECR.profile,
        name="Amazon ECR Public",
        auth="token",
        token_path="/token/",  # helm/helm#12491
        token_life_s=None,  # assumption
        head_blobs=Refusal(
            401,
            "DENIED",
            "Not Authorized",
            headers=(("WWW-Authenticate", 'Bearer realm="{url}/token/",service="public.ecr.aws",scope="aws"'),),
        ),
        referrers=False,  # assumption
    ),
    settings=("the repositories",),
)

# Azure Container Registry.
ACR = Product(
    Profile(
        name="Azure Container Registry",
        auth="token",
        token_path="/oauth2/token",  # Azure/acr, AAD-OAuth.md
        token_life_s=None,  # the same: the answer is {"access_token": ...}
        also_basic=True,  # the same: Basic for the admin account, tokens and service principals
        location="relative",  # opencontainers/artifacts#55: the query has to be kept
        max_body=20 * 1024 * 1024,  # goharbor/harbor#23015: 413 for a larger PUT
        sparse=False,  # assumption
        referrers=True,  # Azure/azure-cli#25069
        redirect=True,  # learn.microsoft.com, container-registry-dedicated-data-endpoints: 307 to *.blob.core.windows.net
    )
)

# GitLab's fork of distribution, with GitLab as token server. The project exists.
GITLAB = Product(
    replace(
        DISTRIBUTION,
        name="GitLab",
        auth="token",
        token_path="/jwt/auth",  # gitlabhq/gitlabhq, app/controllers/jwt_controller.rb
        token_life_s=300,  # the same, container_registry_token_expire_delay: five minutes
        must_exist="product",  # group and project; Dokploy/dokploy#4293: a token for another path has no actions
        # gitlabhq/gitlabhq, lib/container_registry/path.rb: the project is looked for in the last three levels of the path alone
        depth=4,
        too_deep=Refusal(401, "UNAUTHORIZED", "authentication required"),
        location="absolute",
        mounts_across=False,  # estesp/manifest-tool#53: 401 where the account may not read the other project
        # grimoire-rs/grimoire#11, ocx-sh/ocx#480: types of artifacts by a list
        artifact_types=frozenset({"application/vnd.cncf.helm.config.v1+json"}),
        wrong_artifact=Refusal(400, "MANIFEST_INVALID", "manifest invalid", "unknown media type: {type}"),
        deletes=True,
        # gitlab-org/container-registry, registry/api/v2/errors.go: ErrorCodeManifestReferencedInList
        referenced=Refusal(409, "MANIFEST_REFERENCED", "manifest referenced by a manifest list"),
    ),
    prepared=frozenset({f"{PREFIX}/mirror", f"{PREFIX}/cut"}),
    settings=("the project, with its container registry enabled",),
    prefix=f"{PREFIX}/mirror",
    other_prefix=f"{PREFIX}/cut",
    options=("--max-path-components", "4"),
)

PROFILES = (ARTIFACTORY, NEXUS, ECR, ECR_PUBLIC, ACR, GITLAB)
