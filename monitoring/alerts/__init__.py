"""Rules that say which failure a user would see, and what to do about each."""
