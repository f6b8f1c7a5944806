"""What msgspec raises for bytes that are no JSON. Not in `serialization`, which loads a YAML parser: `--help` needs none."""

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # text that is not UTF-8 is a ValueError of its own
