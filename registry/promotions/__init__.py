"""The promotion line: a version reaches a clinic by evidence, gates and two people, and leaves it by one command."""

from registry.promotions.evidence import add as add_evidence

__all__ = ["add_evidence"]
