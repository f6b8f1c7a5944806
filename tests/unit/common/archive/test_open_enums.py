import msgspec
import pytest

from common.archive.inventory import BlobRecord, ImageKind, ImageRecord, Problem, ProblemCode

IMAGE = b'{"source":"x","digest":null,"mediaType":null,"kind":"%s","platforms":[],"complete":false,"neededBy":[],"size":0}'


def test_unknown_values_are_kept():
    problem = msgspec.json.decode(b'{"severity":"error","code":"from-the-future","subject":"x","message":"y"}', type=Problem)
    assert problem.code == "from-the-future"
    assert b'"code":"from-the-future"' in msgspec.json.encode(problem)
    assert msgspec.json.decode(IMAGE % b"hologram", type=ImageRecord).kind == "hologram"


def test_known_values_are_the_members():
    assert msgspec.json.decode(IMAGE % b"bundle", type=ImageRecord).kind is ImageKind.BUNDLE
    blob = msgspec.json.decode(b'{"size":1,"mediaType":"x","missing":"blob-unavailable"}', type=BlobRecord)
    assert blob.missing is ProblemCode.BLOB_UNAVAILABLE


def test_an_unknown_encoding_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"size":1,"mediaType":"x","encoding":"brotli"}', type=BlobRecord)
    with pytest.raises(ValueError, match="7"):
        ProblemCode(7)
