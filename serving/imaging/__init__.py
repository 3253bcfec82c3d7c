"""Pixels and geometry: DICOM to volume, acquisition profile, quality features."""
