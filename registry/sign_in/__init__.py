"""Who is signed in to the pages: keys of accounts, and the sessions that they open."""
