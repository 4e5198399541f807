"""Settings that contradict each other or the model: a generator of sentences for each of them, and the check of all."""
