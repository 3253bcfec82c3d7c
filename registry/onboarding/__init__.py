"""The way of a new clinic: what it needs, who begins its onboarding, lets a step pass, and signs for a version."""
