"""Serving works: it receives studies, runs the bound model version and delivers the results."""
