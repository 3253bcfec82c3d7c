"""What a study is and where it stands."""
