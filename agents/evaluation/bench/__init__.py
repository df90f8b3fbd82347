"""DiG-Bench: frozen pairs of every stage, and what a policy finds on them."""
