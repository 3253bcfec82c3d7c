"""What a person of the QA team does first, and why: flags, silence, drawn studies, onboarding, in the order of need."""
