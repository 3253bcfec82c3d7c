"""From drift and reviews to one verdict: bets on labels, and a table that is one pure function."""
