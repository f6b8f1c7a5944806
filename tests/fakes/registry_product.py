"""A registry product as mirror: its profile, and what its administrator prepares for a site."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fakes.registry import FakeRegistry, Quay
from tests.fakes.registry_profile import Profile

PREFIX = "ocp"  # the project or organization of the mirror


@dataclass(frozen=True)
class Product:
    """A profile with what its administrator prepares: `prepared` projects or repositories, `organizations` of Quay."""

    profile: Profile
    prepared: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()
    settings: tuple[str, ...] = ()  # of the product, that are not its defaults
    prefix: str = PREFIX
    other_prefix: str = f"{PREFIX}/cut"
    options: tuple[str, ...] = ()  # of every command

    @property
    def name(self) -> str:
        return self.profile.name

    def registry(self) -> FakeRegistry:
        """Return the scripted registry, to be entered."""
        profile = self.profile
        registry = FakeRegistry(
            profile=profile,
            auth=profile.auth,
            token_life_s=profile.token_life_s,
            relative_locations=profile.location == "relative",
            sparse=profile.sparse,
            referrers=profile.referrers,
            max_body=profile.max_body,
            chunk_min_length=profile.chunk_min,
            redirect=profile.redirect,
            page=profile.page,
        )
        registry.deletes, registry.max_depth = profile.deletes, profile.depth
        registry.prepared |= self.prepared
        if profile.creates_by_token:
            registry.quay = Quay(set(self.organizations), needs_repository=profile.base_needs_repository)
        return registry
