"""Commands that are not a Trainer loop, one module each."""
