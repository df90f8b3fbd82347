"""Pages in the browser: play against the environment, look through pairs and evaluations."""
