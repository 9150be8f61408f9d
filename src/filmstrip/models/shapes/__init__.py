"""The model in the box: moving shapes, of the LTX-Video architecture. `training/shapes` made it."""
