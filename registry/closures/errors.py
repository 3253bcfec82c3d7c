"""Every failure of the calendar by name."""

from registry.core.errors import Conflict, Invalid, NotFound


class DayUnreadable(Invalid):
    """This is no day."""

    code = "closure.day_unreadable"
    why = "A day is written as year, month and day, such as 2026-12-24, and must be in the calendar."
    cure = "Give --from and --to as YYYY-MM-DD."


class DaysReversed(Invalid):
    """The first closed day comes after the last one."""

    code = "closure.days_reversed"
    why = "Both days are closed themselves, so one closed day has --from and --to alike."
    cure = "Give the earlier day with --from and the later one with --to."


class ClosureTooLong(Invalid):
    """This closure is longer than 60 days."""

    code = "closure.too_long"
    why = "Of closed days nothing is counted: a clinic that is closed for so long is not watched for far fewer studies."
    cure = "Check the years, give 60 days at most, or suspend the clinic with radfleet clinic suspend."


class ClosureOptions(Invalid):
    """These options do not go together."""

    code = "closure.options"
    why = (
        "One command states a closure (--from and --to), withdraws one (--withdraw), or lists them (--list)."
    )
    cure = "Give both --from and --to, or --withdraw NUMBER, or --list alone."


class ClosureUnknown(NotFound):
    """This clinic has no such closure."""

    code = "closure.unknown"
    cure = "See the numbers with radfleet clinic closed CLINIC --list."


class ClosureWithdrawn(Conflict):
    """This closure was withdrawn already."""

    code = "closure.withdrawn"
    cure = "See who did and why with radfleet clinic closed CLINIC --list."
