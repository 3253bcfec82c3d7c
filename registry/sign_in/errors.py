"""Every failure of sign-in by name."""

from registry.core.errors import Forbidden, NotFound


class AccountKeyUnknown(NotFound):
    """This account has no such valid key."""

    code = "session.key_unknown"
    cure = "Run radfleet account key list ACCOUNT for the ids of its keys."


class SignInWrong(Forbidden):
    """This name and key open nothing."""

    # One text for every cause (unknown, wrong, expired, revoked, disabled): a stranger learns nothing by trying.
    code = "session.refused"
    cure = "Check that the key was copied whole, or ask an admin for one: radfleet account key add NAME."


class SessionOver(Forbidden):
    """Nobody is signed in here, or no longer."""

    code = "session.over"
    why = "A session ends 12 hours after sign-in, after 2 idle hours, and with its key or account."
    cure = "Open the sign-in page and enter your name and key."
