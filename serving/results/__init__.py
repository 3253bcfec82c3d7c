"""What goes back: findings, SEG, SR, preview, and their delivery."""
