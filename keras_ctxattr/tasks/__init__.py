"""What features and attributes are used for, a package a task."""
