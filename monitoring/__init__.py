"""Monitoring watches: it reads the published views and says which clinic is getting worse."""
