"""How the demo fails."""

from registry.core.errors import Unmet


class DemoFailed(Unmet):
    """A step of the demo did not do what it shows."""

    code = "demo.failed"
    cure = "Read the step's output above and the logs in the demo's folder, then run make demo again."
