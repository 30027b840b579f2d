"""Objects that a collection shows again and again: constellations of patches."""
