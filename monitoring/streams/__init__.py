"""A clinic's feature rows in sequence order, as streams that the detector watches."""
