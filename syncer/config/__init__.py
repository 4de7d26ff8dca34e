"""What the user wrote, checked: all problems at once, each with its place."""
