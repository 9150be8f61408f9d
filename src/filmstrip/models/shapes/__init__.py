"""The model in the box: moving shapes, of the LTX-Video architecture, with the recipe that trained it."""
