"""Places that hold images: the protocols the engine works with, and repositories that speak them."""
