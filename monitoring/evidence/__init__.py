"""The report that people open: Evidently's pictures of the rows before and after, frozen by digest, never the alarm."""
