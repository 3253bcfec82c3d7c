"""The pages: what should I do, said by each heading; plain HTML and forms, no JavaScript, a JSON twin for each."""
