"""Every failure of the pages by name."""

from registry.core.errors import Forbidden, Invalid, NotFound, Unavailable


class PageUnknown(NotFound):
    """There is no such page."""

    code = "web.page_unknown"
    why = "The address is misspelt, or what it shows is not open to this account."
    cure = "Begin at the fleet page and follow its links."


class FormStale(Forbidden):
    """This form was not given out to this browser."""

    code = "web.form_stale"
    why = "Each form carries a mark of the session that it was made for; another site cannot know it."
    cure = "Reload the page and send the form from there."


class FormInvalid(Invalid):
    """This is not what the form asks for."""

    code = "web.form_invalid"
    cure = "Fill in what the form marks as needed and send it again."


class ReadOnly(Forbidden):
    """This sign-in may look and change nothing."""

    code = "web.read_only"
    why = "A key that opens one clinic only shows its pages."
    cure = "Use a key without a clinic: radfleet account key add NAME."


class DoorAway(Unavailable):
    """What the store holds cannot be reached at this moment."""

    code = "web.door_away"
    why = "Pictures, masks and readings go through the HTTP door, which holds the store; it does not answer."
    cure = "See radfleet status for the part http, then send it again; what the pages show does not depend on it."
