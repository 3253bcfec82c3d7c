"""Every failure of conformance rules by name."""

from registry.core.errors import Invalid, NotFound


class StandardInvalid(Invalid):
    """This file of rules cannot be used."""

    code = "conformance.standard_invalid"
    why = "A rule that is half understood would call a scan fit that nobody has judged."
    cure = "Correct the rule that is named, and raise the version of the file; see registry/conformance/ms-2021.toml."


class StandardUnknown(NotFound):
    """There is no standard of this name."""

    code = "conformance.standard_unknown"
    cure = "Use the name of a file in registry/conformance, such as ms-2021."
