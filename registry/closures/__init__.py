"""The calendar of a clinic's closed days, which people keep and monitoring reads."""
