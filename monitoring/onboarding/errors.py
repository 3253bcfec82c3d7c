"""Every failure of an onboarding's report by name."""

from registry.core.errors import Invalid, Unavailable, Unmet


class ReportKind(Invalid):
    """A report is written as HTML or PDF."""

    code = "onboarding.report_kind"
    cure = "Give --report a file name that ends in .html or .pdf, in a folder that exists and that you may write."


class PdfAway(Unmet):
    """No PDF can be made here."""

    code = "onboarding.pdf_away"
    why = (
        "A PDF is printed by Chromium, and no chromium, chromium-browser or google-chrome is installed here."
    )
    cure = "Install Chromium, or give --report a file name that ends in .html and print it from a browser."


class PdfFailed(Unavailable):
    """The PDF could not be printed."""

    code = "onboarding.pdf_failed"
    cure = "Give --report a file name that ends in .html; run radfleet doctor if that fails too."
