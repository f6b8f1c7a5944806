"""Examples of each command, for `--help` and the manual pages. Imported for these only; a test parses each of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "hub-export list": (
        "hub-export list --catalog registry.redhat.io/redhat/redhat-operator-index:v4.18",
        "hub-export list --release stable-4.18@4.18.3..4.18.22",
    ),
    "hub-export plan": ("hub-export plan imageset.yaml --explain", "hub-export plan imageset.yaml --report approval.html"),
    "hub-export create": (
        "hub-export create imageset.yaml --output /media/stick",
        "hub-export create imageset.yaml --output /media/stick --since last/inventory.json",
    ),
    "hub-export diff": ("hub-export diff last/inventory.json /media/stick",),
    "hub-export keygen": ("hub-export keygen archive",),
    "hub-export finish": ("hub-export finish /srv/parts --output /media/stick",),
    "hub-export build-catalog": (
        "hub-export build-catalog --manifest-dir manifests --from quay.io/example/builder:v1 --to registry.example/catalog:v1",
    ),
    "hub-export kit": ("hub-export kit --output /media/stick/kit --platform linux/amd64 --python 3.11",),
    "hub-export sbom": ("hub-export sbom /media/stick --package openssl",),
    "hub-export login": ("hub-export login registry.redhat.io --username NAME --password-stdin < token",),
    "hub-import inspect": ("hub-import inspect /media/stick",),
    "hub-import verify": ("hub-import verify /media/stick --key archive.pub",),
    "hub-import repair": ("hub-import repair /media/disc --output /srv/archive",),
    "hub-import probe": ("hub-import probe --registry registry.example:5000 --output target.json",),
    "hub-import push": ("hub-import push /media/stick --registry registry.example:5000/ocp",),
    "hub-import receipt": ("hub-import receipt /media/stick --registry registry.example:5000/ocp --output receipt.json",),
    "hub-import prune": (
        "hub-import prune --registry registry.example:5000/ocp --keep-last 2 --output plan.json",
        "hub-import prune --plan plan.json",
    ),
    "hub-import render": ("hub-import render /media/stick --registry registry.example:5000/ocp --output manifests",),
    "hub-import apply": ("hub-import apply /media/stick --registry registry.example:5000/ocp --dry-run",),
    "hub-import deploy": (
        "hub-import deploy /media/stick --registry registry.example:5000/ocp",
        "hub-import deploy /media/stick --registry registry.example:5000/ocp --key archive.pub --yes",
    ),
    "hub-import install": (
        "hub-import install openshift-cert-manager-operator",
        "hub-import install rhtpa-operator:stable-v1.0 --namespace trust --approval manual",
    ),
    "hub-import operators": ("hub-import operators /media/stick",),
    "hub-import status": ("hub-import status",),
    "hub-import doctor": ("hub-import doctor", "hub-import doctor --fix"),
    "hub-import undo": ("hub-import undo --dry-run",),
    "hub-import extract": ("hub-import extract openshift-install /media/stick --output bin",),
    "hub-import serve": ("hub-import serve /media/stick --listen 0.0.0.0:5000 --self-signed /srv/tls --name registry.example",),
    "hub-import sbom": ("hub-import sbom /media/stick --license 'GPL-*'",),
    "hub-import login": ("hub-import login registry.example:5000 --username NAME",),
}
