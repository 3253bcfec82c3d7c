"""The vendor view: which manufacturer, model and software scans where, what changed, and which clinics share it."""
