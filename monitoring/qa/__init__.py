"""QA metrics from rows: how many studies, how they ended, how long it took, and what experts said of the answers."""
