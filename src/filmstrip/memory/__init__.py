"""Where weights and activations live, and in what portions: applied to networks from outside."""
