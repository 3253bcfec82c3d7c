"""What experts say of answers: accept, edit or reject, and how far a corrected mask lies from the delivered one."""
