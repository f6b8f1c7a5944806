"""The version of this tool, as it stands in inventories and in `--version`."""

from importlib.metadata import version

VERSION = version("hub-airgap")
TOOL = f"hub-airgap {VERSION}"
