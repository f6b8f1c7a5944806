"""Complete tag lists of repositories: one question in place of one for each tag that may be there.

Distribution specification 1.1, *Listing Tags*. A pull-through cache may list what it has cached alone, while it gives every tag
of the registry behind it (Quay's proxy organizations, caches of ECR and ACR). So some subjects are asked for in any case, and a
registry that gives a tag which its list lacks is asked tag by tag.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from common.errors import ContentError, RegistryError
from common.oci.image import Digest, subject_of_tag
from common.oci.reference import Reference

# A page of tags takes a round trip, and the next one is asked for after it: no more of them than subjects, each of which has
# three tags or more to be asked for. So much of a list comes in 50 ms by a line of 10 Mbit/s.
_BYTES = 64 * 1024
_PATIENCE_S = 10.0  # of one list: the tags can be asked for one by one
# docker-registry says so of a repository in which no manifest has a tag (registry/storage/tagstore.go, All). That the
# repository is there is known: a manifest of it was read.
_WITHOUT_TAGS = "NAME_UNKNOWN"
# Of one manifest. Cosign has three, and a list of referrers one; a repository could have any number of such names.
_MAX_TAGS = 16
_LOG = logging.getLogger(__name__)
# Gives the tags of a repository, with a bound on pages, bytes of all of them, and seconds of each.
Tags = Callable[[Reference, int, int, float], Iterator[str]]


@dataclass(frozen=True, slots=True)
class _List:
    """The tags of some subjects in a list. `sampled`: those that are asked for nevertheless."""

    subjects: frozenset[Digest]
    sampled: frozenset[Digest]
    tags: frozenset[str]

    def lacks(self, tag: str) -> bool:
        return subject_of_tag(tag) in self.subjects and tag not in self.tags


class TagLists:
    """The tags `sha256-<hex>…` of repositories. Shared by threads."""

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._lists: dict[Reference, _List] = {}
        self._closed: set[str] = set()  # registries that refuse lists
        self._untrue: set[str] = set()  # registries whose lists are not complete

    def read(self, repository: Reference, subjects: Collection[Digest], sampled: Collection[Digest]) -> None:
        """Read the list of a repository that has `subjects`; without one, `lacks` is false for all of them."""
        if repository.registry in self._closed | self._untrue:
            return
        about = frozenset(subjects)
        found, begun = set[str](), False
        try:
            for tag in self._tags(repository, len(about), len(about) * _BYTES, _PATIENCE_S):
                begun = True
                if subject_of_tag(tag) in about:
                    found.add(tag)
                if len(found) > _MAX_TAGS * len(about):
                    _LOG.info("%s: asked tag by tag: more than %d tags of each manifest", repository.name, _MAX_TAGS)
                    return
        except ContentError as error:  # longer than the questions that it would save, or no list
            _LOG.info("%s: asked tag by tag: %s", repository.name, error.message)
            return
        except RegistryError as error:
            if error.code != _WITHOUT_TAGS or begun:  # of a later page it does not say that nothing has a tag
                _LOG.info("%s: lists no tags: %s", repository.registry, error.message)
                self._closed.add(repository.registry)
                return
        self._lists[repository] = _List(about, frozenset(sampled), frozenset(found))

    def lacks(self, tagged: Reference) -> bool:
        """Say whether the list of the repository shows that a tag is not there."""
        known = self._known(tagged)
        if known is None or tagged.registry in self._untrue:
            return False
        return known.lacks(tagged.tag or "") and subject_of_tag(tagged.tag or "") not in known.sampled

    def saw(self, tagged: Reference) -> None:
        """Note that a registry gave a tag; where its list lacks that, no list of it counts any more."""
        known = self._known(tagged)
        if known is not None and known.lacks(tagged.tag or "") and tagged.registry not in self._untrue:
            _LOG.info("%s: not in the list of its repository, so its registry is asked tag by tag", tagged)
            self._untrue.add(tagged.registry)

    def is_in_doubt(self, repository: Reference, subject: Digest) -> bool:
        """Say whether tags of a subject were not asked for because of a list that no longer counts."""
        known = self._lists.get(repository)
        return known is not None and repository.registry in self._untrue and subject not in known.sampled

    def _known(self, reference: Reference) -> _List | None:
        return self._lists.get(Reference(reference.registry, reference.repository))
