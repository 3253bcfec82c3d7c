"""The ways in: DICOM association, HTTP and folder, all through one intake."""
