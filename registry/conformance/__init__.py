"""Does an acquisition fit a published standard? Versioned rules as data, judged per task from headers alone."""
