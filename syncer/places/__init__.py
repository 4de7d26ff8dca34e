"""Sources and destinations of images: the protocols that the engine uses, and their implementations."""
