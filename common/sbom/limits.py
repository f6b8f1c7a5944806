"""Limits of the reading of SBOMs, see docs/reference/limits.md."""

MAX_SIZE = 64 * 1024 * 1024  # bytes of one document, decompressed and without its envelope
MAX_WRAPPED = MAX_SIZE // 3 * 4 + 1024 * 1024  # the same in base64, with signatures
MAX_TAG_VALUE = 16 * 1024 * 1024  # bytes of one document in SPDX tag-value, which is read line by line
MAX_PACKAGES = 100_000  # of one document
MAX_OBJECTS = 1_000_000  # JSON objects within the packages of one document: each reference of a package is one
MAX_VALUES = 2_500_000  # commas there
MAX_DEPTH = 8  # CycloneDX components within components
MAX_SUBJECTS = 1_000  # of one statement
MAX_SUBJECTS_SIZE = 1024 * 1024  # bytes of them
MAX_DISTINCT = 500_000  # packages of a result
MAX_LICENCES = 50_000  # licences of a result
MAX_PAIRS = 2_000_000  # of a package, as often as it has licences, and an image that has it, of a result
MAX_NAME, MAX_VERSION, MAX_LICENCE, MAX_PURL, MAX_TOOL = 200, 100, 500, 500, 100  # characters that are kept
