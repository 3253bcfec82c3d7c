"""How far a new clinic is: its steps, its scanners, the test on its own cases, a report."""
