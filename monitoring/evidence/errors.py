"""Every failure of a report, with its cure."""

from registry.core.errors import Invalid, NotFound, Unavailable, Unmet


class RowsTooFew(Unmet):
    """There are too few studies for a report."""

    code = "evidence.rows_too_few"
    why = "Pictures of a handful of studies say nothing; 20 before and 5 since are the least."
    cure = "Wait for more studies: the report of an open flag is drawn by itself."


class ReportFailed(Unavailable):
    """The report could not be drawn."""

    code = "evidence.report_failed"
    why = "The drawing library ended with an error or took too long; the flag itself does not need it."
    cure = "Nothing is lost. Run radfleet doctor; the report is tried again by itself."


class ReportAbsent(NotFound):
    """There is no such report."""

    code = "evidence.report_absent"
    cure = "List the clinic's reports with radfleet monitor reports."


class ReportDamaged(Invalid):
    """This report is not the one that was frozen."""

    code = "evidence.report_damaged"
    why = "Its bytes do not have the sha256 that is its name."
    cure = "Restore the database from the backup; do not show this report to anybody."


class FileUnfit(Invalid):
    """The report cannot be written to this file."""

    code = "evidence.file_unfit"
    cure = "Give --out a file name in a folder that exists and that you may write."


class CutUnknown(Invalid):
    """QA metrics are not cut that way."""

    code = "evidence.cut_unknown"
    cure = "Give --by clinic, version or scanner."
