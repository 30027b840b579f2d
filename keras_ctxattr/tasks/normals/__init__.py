"""Surface normals: from depth, and how well they are predicted."""
