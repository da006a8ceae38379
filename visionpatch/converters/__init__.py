"""Published checkpoints to our state dicts: one key map per source; a key it does not know is an error."""
