"""What every package stands on and what knows no domain: settings, errors, database, logs."""
