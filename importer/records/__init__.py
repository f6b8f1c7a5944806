"""The mirror's record: the inventories of the archives that a mirror has, stored in the mirror itself (ADR 0080)."""
