"""A registry in memory and a few images: for `syncer demo` and for tests."""
