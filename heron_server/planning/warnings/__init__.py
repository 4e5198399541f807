"""What is allowed but probably not meant: a generator of sentences, or one sentence, for each kind."""
