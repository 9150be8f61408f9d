"""How the model in the box was made: clips, their captions, a judge of both, and the training of its networks."""
