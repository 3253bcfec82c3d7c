"""What axe-core finds wrong in a page as it is drawn: an eye that others made, beside our own (look.py)."""

from importlib.resources import files

from tests.kit.browser import Browser

SOURCE = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
RUN = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(
  fault => `axe ${fault.id}: ${fault.help} (${fault.nodes.slice(0, 3).map(node => node.target.join(' ')).join(', ')})`
))"""


def violations(browser: Browser) -> list[str]:
    """Each rule that the open page breaks, with the first elements that break it."""
    browser.ask(f"{SOURCE};0")
    found: list[str] = browser.ask(RUN)
    return found
