"""Dashboards as code, and the way they get into Grafana."""
