"""Registry decides: clinics, scanners, people, model versions, bindings, audit and the CLI root."""
