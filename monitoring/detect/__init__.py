"""Drift of unlabelled features: ranks, bets, a Shiryaev-Roberts sum, and the replay of any table."""
