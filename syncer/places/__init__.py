"""Places that hold images: the protocols the engine works with, and what implements them."""
