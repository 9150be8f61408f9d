"""How one operation is computed fast."""
